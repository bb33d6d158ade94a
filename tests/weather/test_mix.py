"""The mix of weather for training: what is drawn, and what cannot be built."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetl.config import parse_model
from drivetl.errors import ConfigError
from drivetl.weather import apply_weather
from drivetl.weather.mix import WeatherMix

from .scene import plane_scene

SCENE = plane_scene(90, 160)


def drawn(mix: WeatherMix, pictures: int) -> list[bool]:
    """Return for each of many pictures whether it was changed."""
    rng = np.random.default_rng(0)
    results = (mix.apply(SCENE.image_bgr, SCENE.boxes_xyxy_px, rng=rng) for _ in range(pictures))
    return [not np.array_equal(result, SCENE.image_bgr) for result in results]


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.3, 35, 85), (1.0, 200, 200)])
def test_pictures_get_weather_as_often_as_the_mix_says(probability: float, low: int, high: int) -> None:
    # 0.3 of 200 is 60 with a standard deviation of 6.5; the bounds are four of them away.
    mix = WeatherMix(probability=probability, conditions={"fog": 1.0}, severities=(3,))
    assert low <= sum(drawn(mix, 200)) <= high


def test_conditions_are_drawn_by_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    def spy(image: np.ndarray, condition: str, severity: int, **_: Any) -> np.ndarray:
        seen.append((condition, severity))
        return image

    monkeypatch.setattr("drivetl.weather.mix.apply_weather", spy)
    mix = WeatherMix(probability=1.0, conditions={"fog": 3.0, "rain": 1.0, "snow": 0.0}, severities=(2, 4))
    rng = np.random.default_rng(1)
    for _ in range(400):
        mix.apply(SCENE.image_bgr, SCENE.boxes_xyxy_px, rng=rng)
    names = [name for name, _ in seen]
    assert set(names) == {"fog", "rain"} and {severity for _, severity in seen} == {2, 4}
    assert 250 < names.count("fog") < 350  # 300 expected, deviation 8.7


def test_the_same_generator_gives_the_same_bytes_and_the_picture_is_not_touched() -> None:
    mix, before = WeatherMix(probability=1.0), SCENE.image_bgr.copy()
    first, second = (mix.apply(before, SCENE.boxes_xyxy_px, rng=np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(before, SCENE.image_bgr)


def test_a_mix_of_one_gives_that_weather_with_the_boxes_in_its_depth() -> None:
    mix = WeatherMix(probability=1.0, conditions={"fog": 1.0}, severities=(4,))
    rng, twin = np.random.default_rng(2), np.random.default_rng(2)
    got = mix.apply(SCENE.image_bgr, SCENE.boxes_xyxy_px, rng=rng)
    twin.random(), twin.choice(1, p=[1.0]), twin.integers(1)
    assert np.array_equal(got, apply_weather(SCENE.image_bgr, "fog", 4, rng=twin, boxes_xyxy_px=SCENE.boxes_xyxy_px))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"conditions": {"hail": 1}}, "no weather condition 'hail'; known: fog"),
        ({"conditions": {"fog": -1}}, "the weight of 'fog' is -1"),
        ({"conditions": {"fog": 0}}, "leave the section out"),
        ({"conditions": {}}, "leave the section out"),
        ({"severities": [0]}, "from 1 to 5"),
        ({"severities": []}, "at least one severity"),
        ({"severities": [6]}, "from 1 to 5"),
        ({"probability": 1.5}, "'probability' is '1.5'"),
        ({"conditon": {"fog": 1}}, "did you mean 'conditions'"),
    ],
)
def test_a_mix_that_cannot_be_built_is_an_error(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_model(WeatherMix, document, "recipe.yaml")
