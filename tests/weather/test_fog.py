"""Fog against Koschmieder's equation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from drivetl.errors import ConfigError
from drivetl.weather import depth_prior, estimate_airlight, extinction, fog, transmission

from .scene import plane_scene

AIRLIGHT = (200.0, 190.0, 180.0)


def test_extinction_is_the_textbook_number() -> None:
    assert extinction(100.0) == pytest.approx(3.912 / 100, rel=1e-4)
    assert extinction(100.0, contrast_threshold=0.05) == pytest.approx(2.996 / 100, rel=1e-3)


def test_the_equation_holds_to_one_grey_level_at_chosen_depths() -> None:
    depths = [0.1, 1.0, 5.0, 12.5, 30.0, 75.0, 150.0, 400.0, math.inf]
    levels = [0, 1, 60, 128, 199, 200, 254, 255]
    depth = np.repeat(np.array(depths, np.float32)[:, None], len(levels), axis=1)
    image = np.repeat(np.repeat(np.array(levels, np.uint8)[None, :, None], len(depths), axis=0), 3, axis=2)
    for visibility in (750.0, 190.0, 50.0):
        result = fog(image, visibility_m=visibility, depth_m=depth, airlight_bgr=AIRLIGHT)
        for row, metres in enumerate(depths):
            arriving = math.exp(-3.912 / visibility * metres)
            for column, level in enumerate(levels):
                for channel, airlight in enumerate(AIRLIGHT):
                    expected = level * arriving + airlight * (1 - arriving)
                    assert abs(int(result[row, column, channel]) - expected) <= 1.0


def test_linear_mixes_light_and_not_codes() -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    depth = np.full((1, 1), 100.0 * math.log(2) / 3.912, np.float32)
    result = fog(image, visibility_m=100.0, depth_m=depth, airlight_bgr=(255.0,) * 3, linear=True)
    # Half of white light is 188 in sRGB, while half of the code is 128.
    assert abs(int(result[0, 0, 0]) - 188) <= 1


def test_contrast_falls_with_the_extinction() -> None:
    """Dark and bright stripes on the road: their difference shrinks by exactly the transmission at each distance."""
    _, depth, _, _ = plane_scene(180, 320)
    image = np.full((180, 320, 3), 60, np.uint8)
    image[:, ::2] = 160
    rows = np.s_[100:180]
    earlier = None
    for visibility in np.geomspace(5000, 20, 12):
        result = fog(image, visibility_m=float(visibility), depth_m=depth, airlight_bgr=AIRLIGHT).astype(int)
        contrast = np.abs(np.diff(result[rows, :40, 1], axis=1)).mean(axis=1)
        expected = 100 * np.exp(-3.912 / visibility * depth[rows, 0])
        assert np.abs(contrast - expected).max() <= 1.0
        assert earlier is None or contrast.mean() < earlier
        earlier = contrast.mean()


def test_transmission_at_infinity_is_nothing() -> None:
    depth = np.array([[1e-3, 10.0, np.inf]], np.float32)
    arriving = transmission(depth, 0.05)
    assert np.allclose(arriving, [[1.0, math.exp(-0.5), 0.0]], atol=1e-4)


def test_airlight_is_the_sky_and_nearly_grey() -> None:
    image, depth, _, _ = plane_scene(180, 320)
    blue, green, red = estimate_airlight(image, depth)
    assert 180 < green < 225
    assert blue > green > red
    assert blue - red < 0.25 * (235 - 170)


def test_patchy_fog_keeps_the_mean_and_drifts() -> None:
    image = np.zeros((180, 320, 3), np.uint8)
    depth = np.full((180, 320), 20.0, np.float32)
    even = fog(image, visibility_m=100.0, depth_m=depth, airlight_bgr=AIRLIGHT)
    frames = [
        fog(image, visibility_m=100.0, depth_m=depth, airlight_bgr=AIRLIGHT, patchiness=0.5,
            rng=np.random.default_rng(4), time_s=time_s)
        for time_s in (0.0, 1 / 30, 5.0)
    ]  # fmt: skip
    others = [
        fog(
            image,
            visibility_m=100.0,
            depth_m=depth,
            airlight_bgr=AIRLIGHT,
            patchiness=0.5,
            rng=np.random.default_rng(s),
        )
        for s in range(12)
    ]
    assert np.mean(others) == pytest.approx(even.mean(), rel=0.08)
    assert frames[0].std() > even.std() + 3
    step, leap = (float(np.abs(frames[0].astype(int) - frame).mean()) for frame in frames[1:])
    assert 0 < step < 0.3 * leap


@pytest.mark.parametrize("visibility", [0, -5, float("nan"), float("inf"), "far", True])
def test_a_bad_visibility_is_one_sentence(visibility: float) -> None:
    with pytest.raises(ConfigError, match="visibility_m"):
        fog(np.zeros((4, 4, 3), np.uint8), visibility_m=visibility)


@pytest.mark.parametrize("airlight", [(1, 2), "grey", (300, 0, 0), 7])
def test_a_bad_airlight_is_one_sentence(airlight: object) -> None:
    with pytest.raises(ConfigError, match="airlight_bgr"):
        fog(np.zeros((4, 4, 3), np.uint8), visibility_m=100, airlight_bgr=airlight)  # type: ignore[arg-type]


@pytest.mark.parametrize(("known", "bound"), [("horizon and boxes", 0.005), ("boxes", 0.006), ("nothing", 0.02)])
def test_error_of_the_prior(known: str, bound: float, record_testsuite_property: Callable[[str, object], None]) -> None:
    """Mean absolute error of the transmission at 150 m, on a plane with six upright boxes.

    The figure is in the JUnit report (``pytest --junitxml``) as a property of the suite.
    """
    scene = plane_scene()
    prior = depth_prior(
        scene.image_bgr,
        horizon_px=scene.horizon_px if "horizon" in known else None,
        boxes_xyxy_px=scene.boxes_xyxy_px if "boxes" in known else None,
    )
    error = np.abs(transmission(prior, extinction(150.0)) - transmission(scene.depth_m, extinction(150.0)))
    record_testsuite_property(f"mean_transmission_error_knowing_{known}", round(float(error.mean()), 5))
    assert float(error.mean()) < bound
