"""Each kernel against the physics it claims."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.weather import dirty_lens, glare, motion_blur, night, pixels, rain, sensor_noise, snow, wet_lens
from drivetl.weather.particles import View, fly
from drivetl.weather.pixels import planck_bgr
from drivetl.weather.rainfall import drop_speed, rain_extinction
from drivetl.weather.surface import small_view, wet_ground
from drivetl.weather.tiles import normal_tile

from .scene import plane_scene


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_drops_fall_as_measured() -> None:
    """Gunn and Kinzer (1949): 1 mm 4.03, 2 mm 6.49, 5 mm 9.09 m/s."""
    speeds = drop_speed(np.array([1.0, 2.0, 5.0], np.float32))
    assert np.allclose(speeds, [4.03, 6.49, 9.09], rtol=0.05)


def test_rain_weakens_light_as_tabled() -> None:
    """ITU-R P.1814 with Carbonneau's constants: 25 mm/h are 9.3 dB/km."""
    assert 10 * np.log10(np.exp(rain_extinction(25.0) * 1000)) == pytest.approx(9.3, rel=0.01)


def test_streaks_fall_and_spread_from_the_driving_direction() -> None:
    view = View(720, 1280, 900.0, 640.0, 330.0)
    common = {
        "diameter_m": np.full(4000, 0.002, np.float32), "wind_m_s": 0.0, "exposure_s": 0.01, "farthest_m": 6.0,
        "time_s": 0.0,
    }  # fmt: skip
    parked = fly(view, rng(), fall_m_s=np.full(4000, 7.0, np.float32), ego_m_s=0.0, **common)
    step = parked.ends_px[:, 1] - parked.ends_px[:, 0]
    assert np.allclose(step[:, 0], 0, atol=1e-3)
    assert np.allclose(step[:, 1], 900 * 0.07 / parked.distance_m, rtol=1e-3)
    driving = fly(view, rng(), fall_m_s=np.zeros(4000, np.float32), ego_m_s=15.0, **common)
    outward = driving.ends_px[:, 0] - (640.0, 330.0)
    step = driving.ends_px[:, 1] - driving.ends_px[:, 0]
    assert (np.einsum("ij,ij->i", outward, step) >= -1e-3).all()
    assert np.allclose(outward[:, 0] * step[:, 1], outward[:, 1] * step[:, 0], atol=2.0)


def test_rain_wets_the_road_and_leaves_streaks() -> None:
    scene = plane_scene()
    result = rain(scene.image_bgr, rate_mm_h=25, depth_m=scene.depth_m, rng=rng(), dimming=0.0)
    dry = rain(scene.image_bgr, rate_mm_h=25, depth_m=scene.depth_m, rng=rng(), dimming=0.0, wetness=0.0)
    near, far = np.s_[620:700, 50:1230], np.s_[345:360, 50:400]
    assert np.median(result[near]) < np.median(dry[near]) - 4
    # At a flat angle the film mirrors the bright sky.
    assert np.median(result[far]) > np.median(result[near]) + 20
    dark = np.full((720, 1280, 3), 60, np.uint8)
    streaks = rain(dark, rate_mm_h=25, depth_m=np.full((720, 1280), 30, np.float32), rng=rng(), wetness=0.0)
    upright, level = (np.abs(np.diff(streaks[..., 1].astype(int), axis=axis)).mean() for axis in (1, 0))
    assert upright > 1.4 * level


def streaks_cover(width: int, rate_mm_h: float) -> float:
    """Return the share of a picture that streaks cover, by what they lighten on black."""
    size = (width * 9 // 16, width)
    dry = {"depth_m": np.full(size, 0.5, np.float32), "airlight_bgr": (200, 200, 200), "wetness": 0.0, "dimming": 0.0}
    found = [
        rain(np.zeros((*size, 3), np.uint8), rate_mm_h=rate_mm_h, rng=rng(seed), **dry).mean() for seed in range(4)
    ]
    return float(np.mean(found))


@pytest.mark.parametrize("rate_mm_h", [2.5, 100.0])
def test_a_small_picture_shows_the_same_rain(rate_mm_h: float) -> None:
    """A drop thinner than a pixel covers it in part, so a smaller picture is not whiter."""
    small, large = (streaks_cover(width, rate_mm_h) for width in (320, 1920))
    assert small == pytest.approx(large, rel=0.25)


def test_violent_rain_has_several_times_the_streaks_of_light_rain() -> None:
    """By Marshall and Palmer 100 mm/h has 12 times the drops above 2 mm of 2.5 mm/h; most of them are in the veil."""
    assert 3.0 < streaks_cover(640, 100.0) / streaks_cover(640, 2.5) < 12.0


def test_a_path_is_in_view_until_all_of_it_has_left() -> None:
    view = View(720, 1280, 900.0, 640.0, 330.0)
    streaks = fly(
        view, rng(), diameter_m=np.full(20000, 0.002, np.float32), fall_m_s=np.full(20000, 7.0, np.float32),
        ego_m_s=15.0, wind_m_s=0.0, exposure_s=0.015, farthest_m=5.0, time_s=0.0,
    )  # fmt: skip
    low, high = streaks.ends_px.min(axis=1), streaks.ends_px.max(axis=1)
    crossing = ((low < -60) & (high > 0)) | ((high > (1340, 780)) & (low < (1280, 720)))
    assert crossing.any(axis=1).sum() > 20, "they were left out when an end was 40 pixels outside"


def test_light_on_the_road_comes_and_goes_by_degrees() -> None:
    """A street lamp that passes leaves the picture before its light does."""
    scene = plane_scene(360, 640)
    frames = [
        night(
            scene.image_bgr, ambient=0.03, gain_db=0, depth_m=scene.depth_m, rng=rng(5), noise_rng=rng(1),
            time_s=frame / 15,
        )
        for frame in range(60)
    ]  # fmt: skip
    road = [cv2.blur(frame[240:].astype(np.float32), (25, 25)) for frame in frames]
    steps = [float(np.abs(b - a).max()) for a, b in itertools.pairwise(road)]
    assert max(steps) < 4.0, "a lamp that vanished took 16 grey levels with it"


def test_the_noise_of_any_size_comes_from_one_tile_without_a_seam() -> None:
    grey = np.full((1100, 2200, 3), 128, np.uint8)
    noise = sensor_noise(grey, gain_db=24, rng=rng(3)).astype(float) - 128
    assert normal_tile.cache_info().maxsize == 1 and normal_tile().nbytes < 13e6
    blocks = noise[:1050, :2160].reshape(7, 150, 8, 270, 3).std(axis=(1, 3))
    assert blocks.min() > 0.9 * blocks.max()
    across, down = noise[:, 1:] - noise[:, :-1], noise[1:] - noise[:-1]
    assert across.std(axis=(0, 2)).min() > 0.85 * across.std()
    assert down.std(axis=(1, 2)).min() > 0.85 * down.std()


def test_wet_asphalt_reflects_half_to_two_thirds_and_mirrors_by_fresnel() -> None:
    """In linear light and without what is mirrored; half of what Fresnel's law gives is mirrored off rough asphalt."""
    scene = plane_scene()
    view = small_view(scene.image_bgr, scene.depth_m)
    gain, light = wet_ground(view, wetness=1.0)
    rows = np.arange(112, 132)
    metres = view.depth_m[rows, 40]
    mirrored = 0.5 * (0.02 + 0.98 * (1.0 - np.minimum(1.5 / metres, 1.0)) ** 5)
    reflectance = (gain[rows, 40] / (1.0 - mirrored)) ** 2.2
    assert (reflectance > 1 / 2).all()
    assert (reflectance < 2 / 3).all()
    sky = view.image_bgr[:20].mean() / 255
    assert np.allclose(light[rows, 40].mean(axis=1), mirrored * sky, atol=0.03)


def test_snow_lies_on_the_ground_and_flakes_are_white() -> None:
    scene = plane_scene()
    bare, covered = (
        snow(scene.image_bgr, visibility_m=2000, flakes_per_m3=0, ground_cover=cover, depth_m=scene.depth_m, rng=rng())
        for cover in (0.0, 0.95)
    )
    road = np.s_[450:700, 100:500]
    assert np.median(covered[road]) > np.median(bare[road]) + 60
    assert np.abs(covered[:300].astype(int) - bare[:300]).mean() < 1
    dark = np.full((360, 640, 3), 20, np.uint8)
    flakes = snow(dark, visibility_m=1e5, flakes_per_m3=30, ground_cover=0, airlight_bgr=(200, 200, 200), rng=rng(),
                  depth_m=np.full((360, 640), 5.0, np.float32))  # fmt: skip
    assert flakes.max() > 150
    assert 0.002 < (flakes[..., 1] > 60).mean() < 0.2


def test_night_is_dark_but_for_the_beam_and_the_lamps() -> None:
    scene = plane_scene()
    common = {"ambient": 0.02, "depth_m": scene.depth_m, "gain_db": 0.0, "lamp_strength": 0.0}
    unlit = night(scene.image_bgr, headlight=0.0, rng=rng(), **common)
    lit = night(scene.image_bgr, headlight=0.5, rng=rng(), **common)
    assert scene.image_bgr.mean() > 4 * unlit.mean()
    road, sky = np.s_[480:560, 560:720], np.s_[0:200, 560:720]
    assert lit[road].mean() > 2 * unlit[road].mean()
    assert lit[sky].mean() == pytest.approx(unlit[sky].mean(), abs=1.5)
    assert lit[road].mean() > 1.5 * lit[480:560, 0:60].mean()
    lamps = night(scene.image_bgr, headlight=0.0, rng=rng(), **{**common, "lamp_strength": 0.9})
    assert lamps[:331].max() > 200


def test_vehicles_ahead_show_red_and_oncoming_ones_white() -> None:
    scene = plane_scene()
    ahead, oncoming = (760.0, 330.0, 900.0, 430.0), (380.0, 330.0, 520.0, 430.0)
    picture = night(scene.image_bgr, ambient=0.01, headlight=0.0, gain_db=0.0, lamp_strength=0.0, rng=rng(),
                    depth_m=scene.depth_m, boxes_xyxy_px=[ahead, oncoming]).astype(int)  # fmt: skip
    red, white = picture[330:430, 760:900].reshape(-1, 3), picture[330:430, 380:520].reshape(-1, 3)
    assert (red[:, 2] - red[:, 0]).max() > 120
    assert white.min(axis=1).max() > 120


def test_what_does_not_stand_on_the_road_or_is_small_has_no_lamps() -> None:
    scene = plane_scene()
    common = {"ambient": 0.01, "headlight": 0.0, "gain_db": 0.0, "lamp_strength": 0.0}
    # Signs: one above the horizon, one of 0.6 m at 10 m that reaches below it.
    for sign in ((700.0, 200.0, 760.0, 260.0), (700.0, 300.0, 754.0, 354.0)):
        depth_m = scene.depth_m.copy()
        depth_m[int(sign[1]) : int(sign[3]), int(sign[0]) : int(sign[2])] = 10.0
        boxed, bare = (
            night(scene.image_bgr, rng=rng(), boxes_xyxy_px=boxes, depth_m=depth_m, **common)
            for boxes in ([sign], None)
        )
        assert np.array_equal(boxed, bare), sign


def test_a_street_lamp_behind_something_is_not_seen() -> None:
    image = np.full((360, 640, 3), 60, np.uint8)
    common = {"ambient": 0.01, "headlight": 0.0, "gain_db": 0.0, "lamp_strength": 0.9}
    wall, open_road = (
        night(image, rng=rng(), depth_m=np.full((360, 640), metres, np.float32), **common) for metres in (3.0, 500.0)
    )
    assert open_road.max() > 200 and wall.max() < 120


@pytest.mark.parametrize("per_m3", [10.0, 40.0])
def test_a_cubic_metre_holds_as_many_flakes_as_were_asked_for(per_m3: float, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def count(view: View, generator: np.random.Generator, **named: Any) -> Any:
        far, near, focal = named["farthest_m"], 0.6, view.focal_px
        space_m3 = (view.width * far / focal) * (view.height * far / focal) * (far - near)
        seen.append(len(named["diameter_m"]) / space_m3)
        return fly(view, generator, **named)

    monkeypatch.setattr("drivetl.weather.snowfall.fly", count)
    snow(np.full((360, 640, 3), 90, np.uint8), visibility_m=500, flakes_per_m3=per_m3, ground_cover=0, rng=rng())
    assert seen == [pytest.approx(per_m3, rel=0.01)]


def test_a_black_body_cools_from_blue_to_red() -> None:
    assert planck_bgr(6500.0) == pytest.approx((1.0, 1.0, 1.0))
    blue, green, red = planck_bgr(3000.0)
    assert blue < green < red == 1.0


def test_glare_is_strongest_at_the_sun_and_lifts_black() -> None:
    image = np.full((360, 640, 3), 10, np.uint8)
    result = glare(image, azimuth_deg=10, elevation_deg=8, veil=0.3, lift=0.1, ghosts=0.0, rng=rng())
    focal = 0.7 * 640
    x, y = 320 + focal * np.tan(np.radians(10)), 0.46 * 360 - focal * np.tan(np.radians(8))
    grey = cv2.cvtColor(result, cv2.COLOR_BGR2GRAY)
    rows, columns = np.nonzero(grey >= grey.max() - 1)
    assert np.hypot(columns.mean() - x, rows.mean() - y) < 15
    assert grey.min() > 30
    assert grey[round(y), round(x)] > 240
    house = glare(image, azimuth_deg=10, elevation_deg=8, veil=0.3, lift=0.1, ghosts=0.0, rng=rng(),
                  depth_m=np.full((360, 640), 30.0, np.float32))  # fmt: skip
    assert house[round(y), round(x)].mean() < result[round(y), round(x)].mean()


def test_drops_show_the_scene_upside_down() -> None:
    """Sky above, road below: inside a drop the bright half is the lower one."""
    image = np.full((360, 640, 3), 40, np.uint8)
    image[:170] = 220
    result = wet_lens(image, coverage=1.0, blur_px=0.5, rng=rng(5)).astype(int)
    below = result[230:340, :, 1]
    assert below.max() > 120
    centre_of = np.argwhere(below > 110)
    sample = [(y, x) for y, x in centre_of if 8 < y < 100]
    up = np.mean([below[y - 6, x] for y, x in sample])
    down = np.mean([below[min(y + 2, 109), x] for y, x in sample])
    assert down > up


def test_no_map_of_a_wet_lens_is_enlarged_into_the_memory_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    slots: list[int] = []

    def enlarge(small: np.ndarray, like: np.ndarray, *, slot: int) -> np.ndarray:
        slots.append(slot)
        return pixels.enlarge(small, like, slot=slot)

    monkeypatch.setattr("drivetl.weather.lenses.enlarge", enlarge)
    wet_lens(np.full((90, 160, 3), 120, np.uint8), coverage=0.5, rng=np.random.default_rng(0))
    assert len(slots) == len(set(slots)) == 2


def test_drops_on_an_even_picture_only_darken_it_at_their_rims() -> None:
    """Whatever a drop bends, an even picture looks the same; the rim keeps at least three tenths of the light."""
    result = wet_lens(np.full((720, 1280, 3), 128, np.uint8), coverage=1.0, rng=rng())
    assert result.max() <= 129
    assert result.min() >= 0.3 * 128 - 1


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_lens_coverage_grows_as_asked(share: float) -> None:
    image = np.full((360, 640, 3), 240, np.uint8)
    touched = (np.abs(dirty_lens(image, coverage=share, rng=rng()).astype(int) - 240).max(axis=2) > 6).mean()
    assert 0.25 * share < touched <= 1.0


def test_blur_runs_along_its_direction_and_keeps_the_light() -> None:
    image = np.zeros((200, 400, 3), np.uint8)
    image[95:105, 195:205] = 250
    result = motion_blur(image, turn_deg=3.0, direction_deg=0.0, focal_px=600)
    columns, rows = (np.nonzero(result[..., 0].sum(axis=axis))[0] for axis in (0, 1))
    assert np.ptp(columns) == pytest.approx(10 + 600 * np.tan(np.radians(3.0)), abs=4)
    assert np.ptp(rows) == 9
    assert columns.mean() == pytest.approx(199.5, abs=2)
    assert result.sum() == pytest.approx(image.sum(), rel=0.1)
    assert np.array_equal(motion_blur(image, turn_deg=0.0), image)


def test_noise_follows_the_sensor_model() -> None:
    """EMVA 1288: at 24 dB white has 6000 / 15.8 electrons; the spread of a mid grey follows through the gamma."""
    gain_db, level = 24.0, 128
    electrons = 6000 / 10 ** (gain_db / 20)
    signal = (level / 255) ** 2.2 * electrons
    sigma = np.sqrt(signal + 9) / electrons * 255 / 2.2 * (level / 255) ** (1 - 2.2)
    noisy = sensor_noise(np.full((400, 400, 3), level, np.uint8), gain_db=gain_db, rng=rng())
    assert noisy.std() == pytest.approx(sigma, rel=0.05)
    assert noisy.mean() == pytest.approx(level, abs=0.3)
    channels = noisy.reshape(-1, 3).T
    assert np.abs(np.corrcoef(channels)[np.triu_indices(3, 1)]).max() < 0.02
