"""The depth prior: its geometry, and the absence of what marks a bad one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.errors import ImageError
from drivetl.weather import depth_prior, ground_weight, transmission
from drivetl.weather.sky import DEFAULT_HORIZON, estimate_horizon, shrink, working_scale

from .scene import plane_scene


def test_the_plane_is_where_trigonometry_puts_it() -> None:
    depth = depth_prior((720, 1280), horizon_px=300, focal_px=1000, camera_height_m=1.6)
    for row in (400, 500, 700):
        assert depth[row, 640] == pytest.approx(1000 * 1.6 / (row - 300), rel=0.02)


def test_pitch_and_horizon_say_the_same() -> None:
    by_pitch = depth_prior((720, 1280), pitch_deg=2.0, focal_px=1000)
    by_row = depth_prior((720, 1280), horizon_px=360 - 1000 * np.tan(np.radians(2.0)), focal_px=1000)
    assert np.array_equal(by_pitch, by_row)


def test_a_box_stands_upright_at_its_contact() -> None:
    left, top, right, bottom = box = (500, 250, 700, 450)
    without, depth = (depth_prior((720, 1280), horizon_px=330, boxes_xyxy_px=b) for b in (None, [box]))
    expected = 0.7 * 1280 * 1.5 / (bottom - 330)
    middle = depth[top + 70 : bottom - 5, left + 50 : right - 50]
    assert np.allclose(middle, expected, rtol=0.05)
    assert np.array_equal(depth[:, : left - 10], without[:, : left - 10])


def test_the_nearer_box_hides_the_farther_one_whatever_the_order() -> None:
    far, near = (500, 280, 700, 380), (560, 250, 760, 500)
    one, other = (depth_prior((720, 1280), horizon_px=330, boxes_xyxy_px=b) for b in ([far, near], [near, far]))
    assert np.array_equal(one, other)
    assert one[330, 660] == pytest.approx(0.7 * 1280 * 1.5 / 170, rel=0.05)


def test_a_box_above_the_horizon_touches_no_ground() -> None:
    with_box, without = (
        depth_prior((720, 1280), horizon_px=330, boxes_xyxy_px=b) for b in ([(600, 100, 640, 180)], None)
    )
    assert np.array_equal(with_box, without)


def test_boxes_beyond_the_picture_are_accepted() -> None:
    depth = depth_prior((90, 160), boxes_xyxy_px=[(-50, 20, 30, 200), (170, 0, 190, 80), (0, -30, 160, 120)])
    assert not np.isnan(depth).any()
    assert (depth > 0).all()


def test_sky_is_infinite_and_ground_is_not() -> None:
    scene = plane_scene()
    depth = depth_prior(scene.image_bgr)
    assert np.isinf(depth[:300]).mean() > 0.97
    assert np.isfinite(depth[360:]).all()


def test_trees_above_the_horizon_are_no_sky_and_meet_the_ground_softly() -> None:
    """A wall of trees up to the upper edge: finite depth, and no jump of transmission across the horizon."""
    rng = np.random.default_rng(0)
    image = np.full((720, 1280, 3), 95, np.uint8)
    image[:331] = np.clip(rng.normal((45, 70, 60), 25, (331, 1280, 3)), 0, 255)
    depth = depth_prior(image, horizon_px=331)
    assert np.isfinite(depth).all()
    arriving = transmission(depth, 3.912 / 150)
    assert np.abs(np.diff(arriving[250:420], axis=0)).max() < 0.06
    assert np.abs(np.diff(arriving, axis=1)).max() < 0.02


def test_a_white_lorry_before_a_white_sky_is_no_sky() -> None:
    """Dark trees with a gap of sky in the middle, and beside it a lorry's side that is nearly as bright as the sky."""
    image = np.full((720, 1280, 3), 95, np.uint8)
    image[:331] = (45, 70, 60)
    image[:300, 600:760] = 250
    image[90:400, 330:560] = 225
    depth = depth_prior(image, horizon_px=331)
    assert np.isinf(depth[20:280, 620:740]).all()
    assert np.isfinite(depth[100:331, 340:550]).all()


def test_a_loose_box_leaves_no_halo_around_its_object() -> None:
    """A dark object in a box with air around it: at its flanks the depth is that of the wall behind, not the box's."""
    image = np.full((720, 1280, 3), 150, np.uint8)
    even = image.copy()
    image[260:480, 515:765] = 30
    box = (500.0, 230.0, 780.0, 480.0)
    behind, depth = (depth_prior(image, horizon_px=331, boxes_xyxy_px=b) for b in (None, [box]))
    blind = depth_prior(even, horizon_px=331, boxes_xyxy_px=[box])
    contact = 0.7 * 1280 * 1.5 / (480 - 331)
    assert np.allclose(depth[290:440, 560:720], contact, rtol=0.15)
    halo = np.s_[345:440, 769:778]
    left, without = (float(np.abs(1 / d[halo] - 1 / behind[halo]).mean()) for d in (depth, blind))
    assert left < 0.5 * without


def test_ground_is_told_from_walls_and_sky() -> None:
    scene = plane_scene()
    weight = cv2.resize(ground_weight(scene.depth_m), (1280, 720))
    assert weight[480:700, 100:400].mean() > 0.9
    assert weight[:300].mean() < 0.02
    left, top, right, bottom = scene.boxes_xyxy_px[-1].astype(int)
    assert weight[top + 15 : bottom - 15, left + 10 : right - 10].mean() < 0.1


@pytest.mark.parametrize("given", [(0, 5), (5,), "720x1280", (5.0, 5.0)])
def test_a_bad_size_is_one_sentence(given: object) -> None:
    with pytest.raises(ImageError):
        depth_prior(given)  # type: ignore[arg-type]


@pytest.mark.material
def test_horizon_of_kitti(material: Path) -> None:
    """KITTI's cameras look level: the horizon is the principal point's row 173 of 375, give or take the car's pitch."""
    errors = []
    for path in sorted((material / "data" / "kitti-day" / "image_2").iterdir())[:40]:
        image = cv2.imread(str(path))
        scale = working_scale(image.shape[:2])
        errors.append(abs(estimate_horizon(shrink(image, scale)) / scale.y - 173))
    assert np.median(errors) < 5
    assert np.percentile(errors, 95) < 15


# Rows in which lane lines and kerbs meet, marked by hand, as a share of the height.
_MARKED = {
    "0ace96c3-48481887": 0.33, "1": 0.51, "4": 0.37, "5": 0.52,
    "6": 0.35, "7dd9ef45-f197db95": 0.39, "8e1c1ab0-a8b92173": 0.39, "adb4871d-4d063244": 0.50,
}  # fmt: skip


@pytest.mark.material
def test_horizon_of_dashboard_cameras_is_nearer_than_the_usual_place(material: Path) -> None:
    estimated, usual = [], []
    for name, marked in _MARKED.items():
        image = cv2.imread(str(material / "data" / "street-unlabelled" / f"{name}.jpg"))
        small = shrink(image, working_scale(image.shape[:2]))
        estimated.append(abs(estimate_horizon(small) / small.shape[0] - marked))
        usual.append(abs(DEFAULT_HORIZON - marked))
    assert np.mean(estimated) < 0.05
    assert np.mean(estimated) < 0.7 * np.mean(usual)
