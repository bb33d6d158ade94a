"""A mix of conditions and severities for training: what one picture out of the loader may meet."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, field_validator

from drivetl.config import StrictModel
from drivetl.errors import quoted
from drivetl.weather.checks import MAX_SEVERITY, BgrImage
from drivetl.weather.conditions import CONDITIONS, apply_weather

__all__ = ["WeatherMix"]


class WeatherMix(StrictModel):
    """How often a training picture gets weather, which, and how much.

    A mix that cannot be built is an error where it is read; there is no silent training without weather.
    """

    probability: float = Field(default=0.5, ge=0.0, le=1.0, description="share of the pictures that get weather")
    conditions: dict[str, float] = Field(
        default_factory=lambda: dict.fromkeys(CONDITIONS, 1.0), description="condition → relative weight"
    )
    severities: tuple[int, ...] = Field(default=(1, 2, 3, 4, 5), description="drawn evenly")

    @field_validator("conditions")
    @classmethod
    def _known(cls, conditions: dict[str, float]) -> dict[str, float]:
        for name, weight in conditions.items():
            if name not in CONDITIONS:
                raise ValueError(f"there is no weather condition {quoted(name)}; known: {', '.join(CONDITIONS)}")
            if not 0 <= weight <= 1e6:
                raise ValueError(f"the weight of {quoted(name)} is {weight}; give a number from 0 to a million")
        if not sum(conditions.values()) > 0:
            raise ValueError("no condition has a weight above 0; to train without weather leave the section out")
        return conditions

    @field_validator("severities")
    @classmethod
    def _in_range(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        if not severities or not all(1 <= severity <= MAX_SEVERITY for severity in severities):
            raise ValueError(f"give at least one severity, each from 1 to {MAX_SEVERITY}")
        return severities

    def apply(self, image_bgr: BgrImage, boxes_xyxy_px: Any, *, rng: np.random.Generator) -> BgrImage:
        """Return the picture in drawn weather, or, as often as the mix says, the picture itself.

        Args:
            image_bgr: uint8 (height, width, 3); it is not changed.
            boxes_xyxy_px: (n, 4) labelled boxes: objects stand upright in the depth prior.
            rng: draws everything.
        """
        if rng.random() >= self.probability:
            return image_bgr
        names = list(self.conditions)
        weights = np.array([self.conditions[name] for name in names])
        condition = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        severity = self.severities[int(rng.integers(len(self.severities)))]
        return apply_weather(image_bgr, condition, severity, rng=rng, boxes_xyxy_px=boxes_xyxy_px)
