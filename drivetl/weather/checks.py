"""Validation at the border of the weather kernels; the code inside trusts what passed here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError, ImageError, quoted

__all__ = [
    "MAX_SEVERITY",
    "BgrImage",
    "DepthMap",
    "require_boxes",
    "require_colour",
    "require_depth",
    "require_image",
    "require_number",
    "require_rng",
    "require_severity",
    "require_time",
]

BgrImage = NDArray[np.uint8]
DepthMap = NDArray[np.float32]

MAX_SEVERITY = 5
# Farther out than any picture reaches; what is drawn there would not fit into OpenCV's numbers.
_FARTHEST_PX = 1e6
# Seconds; a year of video.
_LONGEST_S = 3.2e7


def require_image(image_bgr: Any) -> BgrImage:
    """Return the picture if it is a non-empty uint8 array of shape (height, width, 3).

    Raises:
        ImageError: it is anything else; the message gives dtype and shape and says how to convert.
    """
    if not isinstance(image_bgr, np.ndarray):
        raise ImageError(f"the picture is a {type(image_bgr).__name__}; pass a NumPy array of shape (height, width, 3)")
    shape = "x".join(str(side) for side in image_bgr.shape)
    if image_bgr.dtype != np.uint8:
        raise ImageError(
            f"the picture has dtype {quoted(image_bgr.dtype)}; weather works on uint8, so scale it to 0..255 first"
        )
    if image_bgr.ndim == 2:
        raise ImageError(f"the picture is greyscale ({shape}); convert it with cv2.cvtColor(..., cv2.COLOR_GRAY2BGR)")
    if image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
        raise ImageError(f"the picture has shape {quoted(shape)}; weather works on (height, width, 3) in BGR order")
    if image_bgr.size == 0:
        raise ImageError(f"the picture is empty (shape {quoted(shape)}); check how it was read or cropped")
    return image_bgr


def require_depth(depth_m: Any, size_hw: tuple[int, int]) -> DepthMap:
    """Return the depth as contiguous float32 if it is positive, holds no NaN and has the size of the picture.

    Infinity is a legal value: it is the sky.

    Raises:
        ImageError: wrong type, shape or values.
    """
    if not isinstance(depth_m, np.ndarray) or depth_m.dtype.kind not in "fiu":
        raise ImageError(f"the depth is a {type(depth_m).__name__}; pass an array of metres as float32")
    if depth_m.shape != size_hw:
        got = "x".join(str(side) for side in depth_m.shape)
        raise ImageError(
            f"the depth has shape {quoted(got)} but the picture is {size_hw[0]}x{size_hw[1]}; resize the depth to it"
        )
    depth = np.ascontiguousarray(depth_m, dtype=np.float32)
    # NaN propagates through min(), so one pass finds both faults.
    nearest = float(depth.min())
    if math.isnan(nearest):
        raise ImageError("the depth holds NaN; fill the holes first (infinity stands for the sky)")
    if nearest <= 0:
        raise ImageError(f"the depth holds {nearest:g} m; every distance must be above zero (infinity is the sky)")
    return depth


def require_boxes(boxes_xyxy_px: Any) -> NDArray[np.float32]:
    """Return boxes as float32 of shape (n, 4): left, top, right, bottom in pixels; None means no boxes.

    Raises:
        ImageError: wrong shape, values that are not finite, or a right or bottom edge not beyond the left or top one.
    """
    if boxes_xyxy_px is None:
        return np.zeros((0, 4), np.float32)
    try:
        boxes = np.asarray(boxes_xyxy_px, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise ImageError("the boxes are no array of numbers; pass (n, 4) with left, top, right, bottom") from error
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        got = "x".join(str(side) for side in boxes.shape)
        raise ImageError(f"the boxes have shape {quoted(got)}; pass (n, 4) with left, top, right, bottom in pixels")
    if not (np.abs(boxes) <= _FARTHEST_PX).all():
        raise ImageError(f"a box holds NaN, infinity or a number beyond {_FARTHEST_PX:g}; pass pixels of the picture")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        bad = boxes[(boxes[:, 2:] <= boxes[:, :2]).any(axis=1)][0].tolist()
        raise ImageError(f"the box {quoted(bad)} has no area; boxes are left, top, right, bottom in pixels")
    return boxes


def require_number(name: str, value: Any, low: float, high: float) -> float:
    """Return ``value`` as a float if it is a finite number within ``[low, high]``.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ConfigError(f"{name} is {quoted(value)}; it must be a number from {low:g} to {high:g}")
    number = float(value)
    if not low <= number <= high:
        raise ConfigError(f"{name} is {number:g}; it must lie from {low:g} to {high:g}")
    return number


def require_time(time_s: Any) -> float:
    """Return the moment in a video as a float if it is a finite number of at most a year.

    Raises:
        ConfigError: it is not.
    """
    return require_number("time_s", time_s, -_LONGEST_S, _LONGEST_S)


def require_colour(name: str, colour_bgr: Any, *, highest: float = 255.0) -> tuple[float, float, float]:
    """Return a colour as three floats if it is blue, green and red, each from 0 to ``highest``.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(colour_bgr, tuple | list) or len(colour_bgr) != 3:
        raise ConfigError(f"{name} is {quoted(colour_bgr)}; pass (blue, green, red), each from 0 to {highest:g}")
    blue, green, red = (require_number(name, channel, 0.0, highest) for channel in colour_bgr)
    return blue, green, red


def require_severity(severity: Any, *, lowest: int = 0) -> int:
    """Return the severity if it is an integer from ``lowest`` to 5.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(severity, bool) or not isinstance(severity, int | np.integer):
        raise ConfigError(f"the severity is {quoted(severity)}; it must be a whole number from {lowest} to 5")
    if not lowest <= severity <= MAX_SEVERITY:
        meaning = "0 leaves the picture as it is, " if lowest == 0 else ""
        raise ConfigError(f"the severity is {severity}; {meaning}{max(lowest, 1)} is light and {MAX_SEVERITY} severe")
    return int(severity)


def require_rng(rng: Any) -> np.random.Generator:
    """Return ``rng`` if it is a NumPy generator.

    Raises:
        ConfigError: it is not; drivetl never draws from a hidden global state.
    """
    if not isinstance(rng, np.random.Generator):
        raise ConfigError(f"rng is {quoted(type(rng).__name__)}; pass a numpy.random.Generator, such as default_rng(0)")
    return rng
