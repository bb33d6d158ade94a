"""The Detector's way from picture to input: the results of `Letterbox` and `to_tensor`, without allocating.

`drivetl.runtime.letterbox` is the reference that everything is measured with; a test holds the two equal bit for bit.
Scaling writes into a buffer of the size of the scaled picture, and its three planes are looked up into their place in
the tensor. Where the graph preprocesses, scaling writes to its place in the input and that is all. The padding is
written once and stays until a picture of another size comes.
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.runtime.letterbox import UNIT_SCALE, Geometry, Letterbox, check_image

__all__ = ["Preprocessor"]


class Preprocessor:
    """Pictures to tensors through one letterbox, with buffers of its own for every thread that calls it."""

    def __init__(self, letterbox: Letterbox, dtype: str = "float32") -> None:
        """Take the letterbox and the contract's type of input; the buffers are made at a thread's first picture."""
        self._letterbox = letterbox
        self._make = _Pictures if dtype == "uint8" else _Tensors
        self._buffers = threading.local()

    def __call__(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[Any], Geometry]:
        """Return the input and how the picture lies in it.

        The input is float32 ``(1, 3, h, w)`` RGB in [0, 1], or uint8 ``(1, h, w, 3)`` BGR where the graph preprocesses.

        It is the calling thread's buffer: its next call overwrites it.

        Raises:
            ImageError: the picture is not a non-empty uint8 array of shape (height, width, 3).
        """
        check_image(image_bgr)
        image_size_hw = (image_bgr.shape[0], image_bgr.shape[1])
        buffers: _Tensors | _Pictures | None = getattr(self._buffers, "value", None)
        if buffers is None or buffers.geometry.image_size_hw != image_size_hw:
            buffers = self._make(self._letterbox, self._letterbox.geometry(image_size_hw), buffers)
            self._buffers.value = buffers
        return buffers.fill(image_bgr), buffers.geometry


class _Tensors:
    """What one thread needs for pictures of one size, for a graph that takes float32."""

    def __init__(self, letterbox: Letterbox, geometry: Geometry, before: Any) -> None:
        height, width = geometry.resized_hw
        top, left = geometry.top_left_px
        self.geometry = geometry
        self._tensor: NDArray[np.float32] = (
            np.empty((1, 3, *geometry.input_size_hw), np.float32) if before is None else before._tensor
        )
        self._tensor[...] = UNIT_SCALE[0, letterbox.pad_value]
        self._scaled = np.empty((height, width, 3), np.uint8)
        planes = np.empty((3, height, width), np.uint8)
        # Blue, green, red, as they stand in the picture; the tensor has them the other way round.
        self._planes = list(planes[::-1])
        if width == geometry.input_size_hw[1]:
            # A plane's rows lie one after the other here and there: one call for all three, and OpenCV shares out what
            # is that large among its threads, which it does not with a single plane.
            inside = slice(top * width, (top + height) * width)
            self._parts = [(planes.reshape(3, -1), self._tensor.reshape(3, -1)[:, inside])]
        else:
            window = self._tensor[0, :, top : top + height, left : left + width]
            self._parts = list(zip(planes, window, strict=True))

    def fill(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Write a picture into the tensor and return it."""
        height, width = self.geometry.resized_hw
        scaled = image_bgr
        if self.geometry.image_size_hw != (height, width):
            cv2.resize(image_bgr, (width, height), dst=self._scaled, interpolation=cv2.INTER_LINEAR)
            scaled = self._scaled
        cv2.split(scaled, self._planes)
        for levels, floats in self._parts:
            cv2.LUT(levels, UNIT_SCALE, dst=floats)
        return self._tensor


class _Pictures:
    """The same for a graph that takes the letterboxed picture."""

    def __init__(self, letterbox: Letterbox, geometry: Geometry, before: Any) -> None:
        height, width = geometry.resized_hw
        top, left = geometry.top_left_px
        self.geometry = geometry
        self._canvas: NDArray[np.uint8] = (
            np.empty((1, *geometry.input_size_hw, 3), np.uint8) if before is None else before._canvas
        )
        self._canvas[...] = letterbox.pad_value
        self._window = self._canvas[0, top : top + height, left : left + width]

    def fill(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Write a picture into the canvas and return it."""
        height, width = self.geometry.resized_hw
        if self.geometry.image_size_hw == (height, width):
            self._window[...] = image_bgr
        else:
            cv2.resize(image_bgr, (width, height), dst=self._window, interpolation=cv2.INTER_LINEAR)
        return self._canvas
