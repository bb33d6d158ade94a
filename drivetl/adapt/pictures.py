"""What a training picture may be turned into before mosaic: weather, or a user's Albumentations pipeline.

Ultralytics takes a list of Albumentations objects too, but applies it to the finished mosaic (one weather over four
pictures), and trains without any when the list cannot be built. Here each picture is changed on its own, with its own
boxes at hand, and what cannot be built is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.adapt.config import TrainConfig
from drivetl.errors import ConfigError, quoted
from drivetl.weather.mix import WeatherMix
from drivetl.yolo.environment import prepare

__all__ = ["AlbumentationsFile", "PictureChange", "picture_change"]

# (image_bgr uint8 (h, w, 3), boxes_xyxy_px float32 (n, 4), rng) → image_bgr of the same shape
PictureChange = Callable[[NDArray[np.uint8], NDArray[np.float32], np.random.Generator], NDArray[np.uint8]]


def picture_change(config: TrainConfig) -> PictureChange | None:
    """Return what the settings do to each training picture; None if nothing.

    Raises:
        ConfigError: the Albumentations file cannot be used.
    """
    if config.albumentations is not None:
        return AlbumentationsFile(config.albumentations)
    mix = config.weather
    if mix is None or mix.probability == 0:
        return None
    return partial(_weather, mix)


def _weather(
    mix: WeatherMix, image_bgr: NDArray[np.uint8], boxes_xyxy_px: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    return mix.apply(image_bgr, boxes_xyxy_px, rng=rng)


class AlbumentationsFile:
    """A pipeline that ``albumentations.save`` wrote as JSON, applied to one picture at a time.

    Only transforms that leave the geometry alone are accepted: boxes do not pass through the pipeline.

    Raises:
        ConfigError: the file is missing or no such pipeline, or a transform would move pixels.
    """

    def __init__(self, path: Path) -> None:
        prepare()  # or albumentations would ask PyPI for a newer version of itself
        import albumentations as A

        import drivetl.weather.transforms  # noqa: F401 - registers drivetl's own classes for the file

        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            pipeline: Any = A.from_dict(document)
        except OSError as error:
            raise ConfigError(f"cannot read the pipeline {quoted(path)}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{quoted(path)} is not a pipeline that albumentations {A.__version__} reads ({quoted(error)}); "
                "write it with albumentations.save"
            ) from error
        moving = [name for name, kind in _transforms(pipeline) if not issubclass(kind, A.ImageOnlyTransform)]
        if moving:
            raise ConfigError(
                f"{quoted(path)}: {moving[0]} moves pixels, and boxes would stay behind; "
                "only image-only transforms are accepted, geometry has settings of its own"
            )
        self._pipeline: Any = A.Compose([pipeline])

    def __call__(
        self, image_bgr: NDArray[np.uint8], boxes_xyxy_px: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Return the picture after the pipeline, which sees it in RGB."""
        self._pipeline.set_random_seed(int(rng.integers(2**32)))
        result = self._pipeline(image=np.ascontiguousarray(image_bgr[..., ::-1]))["image"]
        return np.ascontiguousarray(result[..., ::-1])


def _transforms(pipeline: Any) -> list[tuple[str, type]]:
    children = getattr(pipeline, "transforms", None)
    if children is None:
        return [(type(pipeline).__name__, type(pipeline))]
    return [entry for child in children for entry in _transforms(child)]
