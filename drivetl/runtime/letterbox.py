"""The one letterbox. Evaluation, parity, latency, video and the car all go through here.

The geometry is that of ``ultralytics.data.augment.LetterBox((h, w), auto=False, scaleup=True, center=True)`` on
the original picture, and a test holds the pixels equal bit for bit. A deployment whose letterbox differs from the
one that the figures were measured with loses accuracy without any error message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ImageError

__all__ = ["UNIT_SCALE", "Geometry", "Letterbox", "check_image", "to_tensor"]

# float32 x/255 for every byte: exactly what dividing the float picture gives, at the price of a table look-up.
UNIT_SCALE = (np.arange(256, dtype=np.float32) / np.float32(255.0)).reshape(1, 256)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How one picture lies in the model's input.

    Attributes:
        image_size_hw: the original picture.
        input_size_hw: the model's input.
        resized_hw: the picture after scaling, before padding.
        top_left_px: offset of the scaled picture in the input, ``(top, left)``.
        scale: input pixels for each picture pixel, before the sides are rounded to whole pixels.
    """

    image_size_hw: tuple[int, int]
    input_size_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    top_left_px: tuple[int, int]
    scale: float

    def to_image(self, xyxy_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes ``(n, 4)`` given in input pixels as boxes in picture pixels, clipped to the picture.

        Each side was rounded to whole pixels when the picture was scaled, so each axis has a scale of its own: with
        the common one, boxes at the lower edge of a 1280x675 picture would be off by nearly a pixel.
        """
        top, left = self.top_left_px
        height, width = self.image_size_hw
        scale_y, scale_x = self.resized_hw[0] / height, self.resized_hw[1] / width
        offset = np.array([left, top, left, top], dtype=np.float32)
        scale = np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float32)
        limit = np.array([width, height, width, height], dtype=np.float32)
        boxes: NDArray[np.float32] = np.clip((xyxy_px - offset) / scale, 0, limit)
        return boxes


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Scale a picture to fit ``size_hw``, keep its aspect ratio, pad the rest.

    Attributes:
        size_hw: height and width of the result in pixels.
        pad_value: grey level of the padding, 0 to 255.
        center: pad both sides alike; otherwise the picture stands at the top left.
        scale_up: enlarge pictures that are smaller than ``size_hw``.
    """

    size_hw: tuple[int, int]
    pad_value: int = 114
    center: bool = True
    scale_up: bool = True

    def geometry(self, image_size_hw: tuple[int, int]) -> Geometry:
        """Return where a picture of the given height and width will lie."""
        height, width = image_size_hw
        out_height, out_width = self.size_hw
        scale = min(out_height / height, out_width / width)
        if not self.scale_up:
            scale = min(scale, 1.0)
        resized_width, resized_height = max(round(width * scale), 1), max(round(height * scale), 1)
        top = left = 0
        if self.center:
            # The 0.1 decides which side gets the odd pixel: the bottom and the right.
            top = round((out_height - resized_height) / 2 - 0.1)
            left = round((out_width - resized_width) / 2 - 0.1)
        return Geometry(image_size_hw, self.size_hw, (resized_height, resized_width), (top, left), scale)

    def __call__(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Geometry]:
        """Return the letterboxed picture, uint8 ``(h, w, 3)``, and its geometry.

        Raises:
            ImageError: the picture is not a non-empty uint8 array of shape (height, width, 3).
        """
        check_image(image_bgr)
        geometry = self.geometry((image_bgr.shape[0], image_bgr.shape[1]))
        height, width = geometry.resized_hw
        scaled = image_bgr
        if image_bgr.shape[:2] != (height, width):
            scaled = cv2.resize(image_bgr, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        canvas = np.full((*self.size_hw, 3), self.pad_value, dtype=np.uint8)
        top, left = geometry.top_left_px
        canvas[top : top + height, left : left + width] = scaled
        return canvas, geometry


def check_image(image_bgr: Any) -> None:
    """Refuse what is not a BGR picture.

    Raises:
        ImageError: with the shape and dtype that were given.
    """
    if not isinstance(image_bgr, np.ndarray):
        raise ImageError(f"a picture must be a numpy array, not {type(image_bgr).__name__}")
    if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8 or not image_bgr.size:
        raise ImageError(
            f"a picture must be a non-empty uint8 array of shape (height, width, 3) in BGR order, "
            f"not {image_bgr.dtype} of shape {image_bgr.shape}"
        )


def to_tensor(letterboxed_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the model's input tensor, float32 ``(1, 3, h, w)`` in RGB order and [0, 1], C-contiguous."""
    height, width = letterboxed_bgr.shape[:2]
    tensor = np.empty((1, 3, height, width), dtype=np.float32)
    for channel, plane in enumerate(reversed(cv2.split(letterboxed_bgr))):
        cv2.LUT(plane, UNIT_SCALE, dst=tensor[0, channel])
    return tensor
