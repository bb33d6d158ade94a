"""One checker over every condition, and what bad input meets."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from drivetl.errors import ConfigError, ImageError
from drivetl.weather import CONDITIONS, WeatherClip, apply_weather, depth_prior, find_condition, snow
from drivetl.weather import jpeg_compression as jpeg
from drivetl.weather.benchmark import road_picture

SEVERITIES = range(1, 6)


def mean_change(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.int32) - b).mean())


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_condition(name: str, seed: int) -> None:
    image = road_picture(360, 640)
    before = image.copy()
    effects = []
    for severity in SEVERITIES:
        result = apply_weather(image, name, severity, rng=np.random.default_rng(seed))
        again = apply_weather(image, name, severity, rng=np.random.default_rng(seed))
        assert result.dtype == np.uint8
        assert result.shape == image.shape
        assert not np.shares_memory(result, image)
        assert result.tobytes() == again.tobytes()
        effects.append(mean_change(result, image))
    assert np.array_equal(image, before), "the input was changed"
    assert effects[0] > 0
    assert effects == sorted(effects), f"the effect does not grow with severity: {effects}"
    untouched = apply_weather(image, name, 0, rng=np.random.default_rng(seed))
    assert np.array_equal(untouched, image)
    assert untouched is not image


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name != "jpeg"])
def test_another_seed_gives_another_picture(name: str) -> None:
    image = road_picture(180, 320)
    first, second = (apply_weather(image, name, 4, rng=np.random.default_rng(seed)) for seed in (1, 2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (7, 5), (1, 400), (400, 1), (31, 97), (375, 1242)])
def test_any_size(name: str, size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    for severity in (1, 5):
        result = apply_weather(image, name, severity, rng=np.random.default_rng(0))
        assert result.shape == image.shape
        assert result.dtype == np.uint8


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_view_that_is_not_contiguous_gives_the_same(name: str) -> None:
    image = road_picture(180, 320)
    mirrored = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    turned = np.rot90(np.ascontiguousarray(np.rot90(image, -1)))
    # As those who train with torch have it: (3, height, width) in memory.
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    first = apply_weather(image, name, 3, rng=np.random.default_rng(3))
    for view in (mirrored, turned, planes, np.asfortranarray(image)):
        assert np.array_equal(view, image)
        assert np.array_equal(apply_weather(view, name, 3, rng=np.random.default_rng(3)), first)


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_pictures_stay_pictures(name: str, level: int) -> None:
    image = np.full((90, 160, 3), level, np.uint8)
    for severity in (1, 5):
        assert apply_weather(image, name, severity, rng=np.random.default_rng(0)).shape == image.shape


@pytest.mark.parametrize("name", CONDITIONS)
def test_boxes_are_not_changed(name: str) -> None:
    boxes = np.array([[10.5, 40.0, 60.0, 80.0], [100.0, 50.0, 150.0, 120.0]], np.float32)
    before = boxes.copy()
    apply_weather(road_picture(180, 320), name, 3, rng=np.random.default_rng(0), boxes_xyxy_px=boxes)
    assert np.array_equal(boxes, before)


@pytest.mark.parametrize("name", CONDITIONS)
def test_severities_do_not_overlap_between_seeds(name: str) -> None:
    """Whatever is drawn, a severity stays between its neighbours in the quantity that defines it."""
    leading = {
        "fog": "visibility_m", "haze": "visibility_m", "rain": "rate_mm_h", "snow": "visibility_m",
        "night": "ambient", "glare": "veil", "wet_lens": "coverage", "dirty_lens": "coverage",
        "motion_blur": "turn_deg", "sensor_noise": "gain_db", "jpeg": "quality",
    }  # fmt: skip
    condition = find_condition(name)
    falling = leading[name] in ("visibility_m", "ambient", "quality")
    drawn = [
        [getattr(condition.sample(np.random.default_rng(seed), severity), leading[name]) for seed in range(40)]
        for severity in SEVERITIES
    ]
    for weaker, stronger in itertools.pairwise(drawn):
        assert max(stronger) < min(weaker) if falling else max(weaker) < min(stronger)


PICTURE = road_picture(64, 96)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (PICTURE[..., 0], "greyscale"),
        (PICTURE.astype(np.uint16), "uint16"),
        (PICTURE.astype(np.float32), "float32"),
        (np.zeros((4, 4, 4), np.uint8), "4x4x4"),
        (np.zeros((0, 9, 3), np.uint8), "empty"),
        ("street.jpg", "str"),
    ],
)
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_bad_picture_is_one_sentence(name: str, image: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        apply_weather(image, name, 1, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (np.ones((64, 95), np.float32), "64x95.*64x96"),
        (np.ones((64, 96, 1), np.float32), "64x96x1"),
        (np.full((64, 96), np.nan, np.float32), "NaN"),
        (np.zeros((64, 96), np.float32), "0 m"),
        (np.full((64, 96), -np.inf, np.float32), "-inf m"),
        ([[1.0]], "list"),
    ],
)
def test_a_bad_depth_is_one_sentence(depth: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        apply_weather(PICTURE, "fog", 1, rng=np.random.default_rng(0), depth_m=depth)


@pytest.mark.parametrize("severity", [6, -1, 2.0, "3", True, None])
def test_a_bad_severity_is_one_sentence(severity: Any) -> None:
    with pytest.raises(ConfigError, match="severity"):
        apply_weather(PICTURE, "fog", severity, rng=np.random.default_rng(0))


def test_severity_of_a_sampler_starts_at_one() -> None:
    with pytest.raises(ConfigError, match="severity is 0"):
        find_condition("fog").sample(np.random.default_rng(0), 0)


@pytest.mark.parametrize("name", ["sunshine", "", None, 3])
def test_an_unknown_condition_lists_the_known(name: Any) -> None:
    with pytest.raises(ConfigError, match="wet_lens"):
        apply_weather(PICTURE, name, 1, rng=np.random.default_rng(0))


def test_randomness_must_be_a_generator() -> None:
    with pytest.raises(ConfigError, match="RandomState"):
        apply_weather(PICTURE, "fog", 1, rng=np.random.RandomState(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([[0, 0, 10]], "1x3"),
        ([[10, 10, 5, 20]], "no area"),
        ([[0, 0, np.nan, 5]], "NaN"),
    ],
)
def test_bad_boxes_are_one_sentence(boxes: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        apply_weather(PICTURE, "night", 1, rng=np.random.default_rng(0), boxes_xyxy_px=boxes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"horizon_px": 64}, "outside the picture's 64 rows"),
        ({"horizon_px": -1}, "outside the picture's 64 rows"),
        ({"horizon_px": float("nan")}, "horizon_px"),
        ({"pitch_deg": 40}, "pitch_deg 40 puts the horizon at row"),
        ({"pitch_deg": 1, "horizon_px": 20}, "pass one of them"),
        ({"camera_height_m": 0}, "camera_height_m"),
        ({"focal_px": 0}, "focal_px"),
    ],
)
def test_bad_geometry_is_one_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        depth_prior(PICTURE, **arguments)


def test_jpeg_is_the_codec_itself() -> None:
    """Quality 100 leaves a flat picture as it is; at 5 blocks of eight pixels are all that is left of fine texture."""
    flat = np.full((64, 64, 3), 130, np.uint8)
    assert mean_change(jpeg(flat, quality=100), flat) <= 1
    coarse = jpeg(road_picture(64, 64), quality=5).astype(np.int32)
    steps = np.abs(np.diff(coarse[..., 1], axis=1)).mean(axis=0)
    assert steps[7::8].mean() > 2 * np.delete(steps, np.s_[7::8]).mean()


@pytest.mark.parametrize("boxes", [[[1, 2, 3], [4]], [["a", "b", "c", "d"]], [[0, 0, 1e9, 1e9]]])
def test_boxes_that_are_no_numbers_or_none_of_a_picture_are_one_sentence(boxes: Any) -> None:
    with pytest.raises(ImageError, match="box"):
        apply_weather(PICTURE, "night", 3, rng=np.random.default_rng(0), boxes_xyxy_px=boxes)


@pytest.mark.parametrize("name", ["fog", "rain", "snow", "night", "wet_lens"])
@pytest.mark.parametrize("time_s", [math.nan, math.inf, "soon"])
def test_a_moment_that_is_none_is_one_sentence(name: str, time_s: Any) -> None:
    clip = WeatherClip(name, 3, rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match="time_s is"):
        clip(PICTURE, time_s=time_s)


def test_a_quality_between_two_is_not_rounded_in_silence() -> None:
    with pytest.raises(ConfigError, match=r"50.9; it must be a whole number"):
        jpeg(PICTURE, quality=50.9)  # type: ignore[arg-type]


def test_severities_of_one_seed_have_their_flakes_in_the_same_places() -> None:
    """What is seen in the lighter snow is seen in the heavier one too."""
    dark = np.full((360, 640, 3), 20, np.uint8)
    depth = np.full((360, 640), 5.0, np.float32)
    fixed = {"visibility_m": 1e5, "ground_cover": 0.0, "depth_m": depth, "airlight_bgr": (200, 200, 200)}
    light, heavy = (snow(dark, flakes_per_m3=n, rng=np.random.default_rng(4), **fixed) for n in (4.0, 36.0))
    seen = light[..., 1] > 80
    assert seen.sum() > 50
    assert (heavy[..., 1][seen] > 60).mean() > 0.95
