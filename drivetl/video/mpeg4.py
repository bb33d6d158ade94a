"""MPEG-4 part 2 through OpenCV, for machines without H.264; a full disk costs the last frames and not the whole video.

OpenCV does not say that a write failed, and its MP4 gets an index only when it is complete. So this looks by itself
whether the file can still grow, and makes the index anew where it is missing.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import VideoError, quoted
from drivetl.video.lost_index import restore_index

__all__ = ["Mpeg4"]

# FFmpeg writes in pieces of 256 KiB. A file that did not grow for so many frames is asked whether it can.
_PIECE_BYTES = 1 << 18
_LOOK_EVERY = 25
_UNSAID = "not every frame arrived in the file, as when the disk is full"


class Mpeg4:
    """A file that is being written; see `drivetl.video.writer` for what its methods promise."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int], target: Path, remedy: str) -> None:
        """Open the encoder.

        Args:
            path: the file.
            fps: frames for each second.
            size_wh: width and height of the frames in pixels.
            target: the file as it will be called.
            remedy: what brings H.264.

        Raises:
            VideoError: the encoder does not start.
        """
        width, height = size_wh
        self._path, self._target = path, target
        self._written = self._size_bytes = 0
        self._untimed = False
        self.failure: str | None = None
        # OpenCV would cut an odd last row or column off without a word.
        self._pad = width % 2, height % 2
        self.codec = "mpeg4"
        self.notes: tuple[str, ...] = (f"encoded as MPEG-4 part 2, which browsers do not play; for H.264: {remedy}",)
        encoded = width + self._pad[0], height + self._pad[1]
        if encoded != size_wh:
            self.notes += (
                f"MPEG-4 part 2 through OpenCV has even sides only, so the last row or column is repeated: "
                f"{width}x{height} became {encoded[0]}x{encoded[1]}",
            )
        self._matroska = path.suffix.lower() == ".mkv"
        self._model = b"" if self._matroska else _one_frame(path, fps, encoded)
        self._writer = _writer(path, fps, encoded)
        if not self._writer.isOpened():
            raise VideoError(
                f"OpenCV cannot encode {quoted(target)} as MPEG-4 at {width}x{height}, {fps:g} frames/s; "
                f"for H.264: {remedy}"
            )

    def write(self, image_bgr: NDArray[np.uint8], time_s: float | None) -> None:
        if self.failure is not None:
            return
        if time_s is not None and not self._untimed:
            self._untimed = True
            self.notes += ("frames keep no times of their own in this format, so the video plays at an even rate",)
        right, bottom = self._pad
        if right or bottom:
            padded = cv2.copyMakeBorder(image_bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            image_bgr = np.asarray(padded, np.uint8)
        self._writer.write(image_bgr)
        self._written += 1
        if self._written % _LOOK_EVERY == 0:
            before, self._size_bytes = self._size_bytes, self._path.stat().st_size
            if self._size_bytes == before:
                self.failure = self._refusal()

    def close(self) -> None:
        self._writer.release()
        if self._playable_frames() != self._written:
            self.failure = self._refusal() or _UNSAID

    def salvage(self) -> int:
        self._writer.release()
        found = self._playable_frames()
        if found == self._written or self._matroska:  # whose frames can be played as far as they go
            return found
        try:
            return restore_index(self._path, self._model)
        except OSError:
            return 0

    def abandon(self) -> None:
        self._writer.release()

    def _refusal(self) -> str | None:
        """Return why the file cannot grow; None if it can. It is as it was afterwards."""
        with self._path.open("r+b", buffering=0) as handle:
            size, left = handle.seek(0, os.SEEK_END), _PIECE_BYTES
            try:
                while left:  # the system may take a part before it refuses
                    left -= handle.write(bytes(left))
            except OSError as error:
                return error.strerror or str(error)
            finally:
                handle.truncate(size)
        return None

    def _playable_frames(self) -> int:
        check = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        try:
            if not check.isOpened():
                return 0
            stated = round(check.get(cv2.CAP_PROP_FRAME_COUNT))
            if stated == self._written:
                return stated
            return sum(1 for _ in iter(check.grab, False))
        finally:
            check.release()


def _writer(path: Path, fps: float, size_wh: tuple[int, int]) -> cv2.VideoWriter:
    return cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, size_wh)


def _one_frame(path: Path, fps: float, size_wh: tuple[int, int]) -> bytes:
    """Return a whole file of one frame. It is made while there is room for it, because later there may be none."""
    place = path.with_name(f"{path.stem}-model{path.suffix}")
    try:
        writer = _writer(place, fps, size_wh)
        writer.write(np.zeros((size_wh[1], size_wh[0], 3), np.uint8))
        writer.release()
        return place.read_bytes()
    except OSError:  # then nothing can be saved, and whoever writes the file itself will hear why
        return b""
    finally:
        place.unlink(missing_ok=True)
