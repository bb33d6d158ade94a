"""Weather for a video: parameters are drawn once, and what falls, drifts or passes by moves on from frame to frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from drivetl.errors import ImageError
from drivetl.weather.checks import (
    BgrImage,
    DepthMap,
    require_boxes,
    require_depth,
    require_image,
    require_number,
    require_rng,
    require_severity,
)
from drivetl.weather.conditions import Scene, find_condition
from drivetl.weather.depth import depth_prior
from drivetl.weather.pixels import Bgr
from drivetl.weather.scattering import estimate_airlight
from drivetl.weather.sky import find_sky, shrink, working_scale

__all__ = ["WeatherClip"]


class WeatherClip:
    """One kind of weather over one video: call it with the frames in order.

    Parameters, horizon and airlight are fixed with the first frame, so fog neither flickers nor jumps; drops, flakes
    and street lamps keep their places in space and move with the time; noise is new in every frame. The same seed
    and frames give the same bytes.
    """

    def __init__(self, condition: str, severity: int, *, rng: np.random.Generator, fps: float = 30.0) -> None:
        """Draw the parameters.

        Args:
            condition: a key of `drivetl.weather.CONDITIONS`.
            severity: 1 to 5; 0 leaves every frame as it is.
            rng: draws parameters and places, here and only here.
            fps: frames a second of the video, 0.1 to 1000.

        Raises:
            ConfigError: a parameter is out of range.
        """
        self.condition = find_condition(condition)
        self.severity = require_severity(severity)
        self.fps = require_number("fps", fps, 0.1, 1000.0)
        generator = require_rng(rng)
        self.parameters = self.condition.sample(generator, self.severity) if self.severity else None
        self._layout_seed, self._noise_seed = (int(seed) for seed in generator.integers(0, 2**62, 2))
        self._frame = 0
        self._size_hw: tuple[int, int] | None = None
        self._horizon_px = 0.0
        self._airlight_bgr: Bgr | None = None

    def __call__(
        self,
        image_bgr: BgrImage,
        *,
        boxes_xyxy_px: Any = None,
        depth_m: DepthMap | None = None,
        time_s: float | None = None,
    ) -> BgrImage:
        """Return the next frame in this weather, a new uint8 array of the same shape.

        Args:
            image_bgr: the frame.
            boxes_xyxy_px: of objects in it, for the depth.
            depth_m: its depth, where it is known.
            time_s: when it is shown, for frames that are not evenly spaced; None: its number divided by the rate.

        Raises:
            ImageError: the frame, its boxes or its depth cannot be used, or it is not of the size of the first one.
        """
        image = require_image(image_bgr)
        boxes = require_boxes(boxes_xyxy_px)
        size_hw = (image.shape[0], image.shape[1])
        if depth_m is not None:
            depth_m = require_depth(depth_m, size_hw)
        self._begin(image, size_hw)
        if self._size_hw != size_hw:
            first = self._size_hw or size_hw
            raise ImageError(
                f"frame {self._frame} is {size_hw[1]}x{size_hw[0]} but the first was {first[1]}x{first[0]}; "
                "use a new WeatherClip for another video"
            )
        if self.parameters is None:
            self._frame += 1
            return image.copy()
        if depth_m is None and "depth_m" in self.condition.wants:
            depth_m = depth_prior(image, horizon_px=self._horizon_px, boxes_xyxy_px=boxes)
        if depth_m is not None and self._airlight_bgr is None:
            self._airlight_bgr = estimate_airlight(image, depth_m)
        scene = Scene(
            rng=np.random.default_rng(self._layout_seed),
            noise_rng=np.random.default_rng((self._noise_seed, self._frame)),
            time_s=self._frame / self.fps if time_s is None else time_s,
            depth_m=depth_m,
            boxes_xyxy_px=boxes,
            airlight_bgr=self._airlight_bgr,
        )
        result = self.condition.render(image, self.parameters, scene)
        self._frame += 1
        return result

    def _begin(self, image: BgrImage, size_hw: tuple[int, int]) -> None:
        if self._size_hw is not None:
            return
        scale = working_scale(size_hw)
        self._size_hw = size_hw
        self._horizon_px = min(find_sky(shrink(image, scale), None)[0] / scale.y, size_hw[0] - 1.0)
