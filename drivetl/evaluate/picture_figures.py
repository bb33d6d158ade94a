"""Plain figures of a picture: what a person would say of its light, air and focus, and of its boxes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.data.records import Box

__all__ = ["BOX_FIGURES", "FIGURES", "picture_figures"]

# name -> what it is, for people
FIGURES = {
    "brightness": "mean grey level, 0 to 1",
    "contrast": "standard deviation of the grey level",
    "haze": "mean of the dark channel, 0 to 1",
    "saturation": "mean saturation, 0 to 1",
    "sharpness": "logarithm of the variance of the Laplacian",
    "box size": "median square root of box area, as a share of the picture's",
    "boxes": "boxes per picture",
}
# Those that come from labels; without any they say nothing of the road.
BOX_FIGURES = ("box size", "boxes")

_WIDTH_PX = 320
_PATCH_PX = 9


def picture_figures(image_bgr: NDArray[np.uint8], boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Return the figures of a picture, float64 ``(7,)`` in the order of `FIGURES`; NaN for the box size without boxes.

    All are taken at a width of 320 pixels, so that the camera's resolution plays no part. The dark channel is the
    darkest colour in the neighbourhood of a pixel: near 0 in clear air, as bright as the airlight in haze (He, Sun and
    Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009).

    Args:
        image_bgr: uint8 ``(height, width, 3)``.
        boxes: its labels, in pixels of the picture.
    """
    height, width = image_bgr.shape[:2]
    size_wh = (_WIDTH_PX, max(1, round(height * _WIDTH_PX / width)))
    small = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    dark = cv2.erode(small.min(axis=2), np.ones((_PATCH_PX, _PATCH_PX), np.uint8))
    saturation = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)[..., 1]
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    sides = [((b[2] - b[0]) * (b[3] - b[1]) / (height * width)) ** 0.5 for b in (box.xyxy_px for box in boxes)]
    return np.array(
        [
            grey.mean(),
            grey.std(),
            dark.mean() / 255,
            saturation.mean() / 255,
            np.log(edges.var() + 1e-8),
            np.median(sides) if sides else np.nan,
            len(boxes),
        ]
    )
