"""A video moves coherently."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from drivetl.errors import ConfigError, ImageError
from drivetl.weather import CONDITIONS, WeatherClip

from .scene import plane_scene


def frames(condition: str, count: int, *, seed: int = 0, severity: int = 4) -> list[np.ndarray]:
    image, depth, boxes, _ = plane_scene(180, 320)
    clip = WeatherClip(condition, severity, rng=np.random.default_rng(seed), fps=30)
    return [clip(image, depth_m=depth, boxes_xyxy_px=boxes) for _ in range(count)]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_same_seed_gives_the_same_video(condition: str) -> None:
    for one, other in zip(frames(condition, 3), frames(condition, 3), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("condition", ["glare", "dirty_lens", "motion_blur", "jpeg"])
def test_what_stands_still_stands_still(condition: str) -> None:
    first, second = frames(condition, 2)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("condition", ["rain", "snow", "sensor_noise", "night"])
def test_what_moves_moves(condition: str) -> None:
    first, second = frames(condition, 2)
    assert not np.array_equal(first, second)


def test_fog_neither_flickers_nor_jumps() -> None:
    sequence = [frame.astype(int) for frame in frames("fog", 4)]
    for earlier, later in itertools.pairwise(sequence):
        assert np.abs(later - earlier).max() <= 2


def test_fog_is_constant_when_the_scene_darkens() -> None:
    """The airlight is that of the first frame, so a shadow does not change the fog."""
    image, depth, _, _ = plane_scene(180, 320)
    clip = WeatherClip("fog", 5, rng=np.random.default_rng(0))
    bright, dark = clip(image, depth_m=depth), clip((image * 0.5).astype(np.uint8), depth_m=depth)
    assert np.abs(bright[:70].astype(int) - dark[:70]).max() <= 1


def test_time_may_be_given() -> None:
    image = plane_scene(180, 320).image_bgr
    counted, told = (WeatherClip("wet_lens", 5, rng=np.random.default_rng(1), fps=10) for _ in range(2))
    counted(image)
    told(image)
    kept = [counted(image) for _ in range(4)]
    assert np.array_equal(told(image, time_s=0.1), kept[0])
    assert not np.array_equal(told(image, time_s=3.0), kept[1])


def test_a_sliding_drop_is_found_again_a_little_lower() -> None:
    clip = WeatherClip("wet_lens", 5, rng=np.random.default_rng(1), fps=1)
    image = plane_scene(180, 320).image_bgr
    early, late = (np.abs(clip(image).astype(int) - image).mean(axis=2).astype(np.float32) for _ in range(2))
    lower = [float((early[:-shift] * late[shift:]).mean()) for shift in range(1, 12)]
    assert max(lower) > float((early * late).mean())


def test_lamps_come_closer() -> None:
    image, depth, _, _ = plane_scene(360, 640)
    clip = WeatherClip("night", 5, rng=np.random.default_rng(3), fps=10)
    highest = []
    for _ in range(4):
        grey = cv2.cvtColor(clip(image, depth_m=depth), cv2.COLOR_BGR2GRAY)
        rows = np.nonzero((grey[:160] > 150).sum(axis=1) > 2)[0]
        highest.append(int(rows.min()))
    assert highest == sorted(highest, reverse=True)
    assert highest[-1] < highest[0]


def test_severity_zero_leaves_every_frame() -> None:
    image = plane_scene(90, 160).image_bgr
    clip = WeatherClip("rain", 0, rng=np.random.default_rng(0))
    assert all(np.array_equal(clip(image), image) for _ in range(2))


def test_a_frame_of_another_size_is_one_sentence() -> None:
    clip = WeatherClip("fog", 2, rng=np.random.default_rng(0))
    clip(plane_scene(90, 160).image_bgr)
    with pytest.raises(ImageError, match="frame 1 is 80x45 but the first was 160x90"):
        clip(plane_scene(45, 80).image_bgr)


def test_a_bad_frame_rate_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="fps"):
        WeatherClip("fog", 2, rng=np.random.default_rng(0), fps=0)
