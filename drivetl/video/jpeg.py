"""Pictures of any size as JPEG, which has a largest size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["JPEG_MOST_PX", "jpeg_bytes"]

# The format counts to 65,535; libjpeg, which OpenCV and browsers use, stops a little before (JPEG_MAX_DIMENSION).
JPEG_MOST_PX = 65_500


def jpeg_bytes(image_bgr: NDArray[np.uint8], quality: int, *, most_px: int = JPEG_MOST_PX) -> bytes:
    """Encode a picture, scaled down where one of its sides is longer than can be.

    Args:
        image_bgr: uint8 ``(height, width, 3)``.
        quality: 0 to 100.
        most_px: the longest side, at most `JPEG_MOST_PX`.
    """
    height, width = image_bgr.shape[:2]
    if max(height, width) > most_px:
        scale = most_px / max(height, width)
        inner_wh = max(1, round(width * scale)), max(1, round(height * scale))
        image_bgr = np.asarray(cv2.resize(image_bgr, inner_wh, interpolation=cv2.INTER_AREA), np.uint8)
    return bytes(cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
