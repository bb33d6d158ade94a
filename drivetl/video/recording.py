"""A recording, in a file or behind a URL: every frame, and whether all that it promises came."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.containers import Container
from drivetl.errors import VideoError, quoted
from drivetl.video.clock import FrameClock
from drivetl.video.source_info import SourceInfo

__all__ = ["PASS_ALLOW", "Recording"]

PASS_ALLOW = "or pass --allow-truncated to use the frames that can be read"

# How much earlier than stated the last frame may end in a whole file, as a share of the length and within bounds. MP4
# and AVI index every frame; elsewhere the stated length is that of the longest track, and sound outlasts pictures.
_TOLERANCE_SHARE = 0.1
_TOLERANCE_S = (0.25, 1.5)
# With fewer of the stated frames than this, a video may have a hole; the number is an estimate where spacing is uneven.
_FEW_SHARE = 0.9


class Recording:
    """A video in a file or behind a URL, as a `drivetl.video.source_info.Source`."""

    def __init__(
        self,
        capture: cv2.VideoCapture,
        info: SourceInfo,
        container: Container | None = None,
        allow_truncated: bool = False,
    ) -> None:
        """Take over an open video.

        Args:
            capture: what OpenCV opened.
            info: what is known of it.
            container: the structure of a file; None behind a URL.
            allow_truncated: add a note about frames that are missing instead of refusing the video.
        """
        self.info = info
        self.dropped = 0
        self.captured_s = 0.0
        self.shown_s: float | None = None
        self._capture = capture
        self._container = container
        self._allow_truncated = allow_truncated

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        read, last_ms = 0, 0.0
        clock = FrameClock(self.info.fps)
        while True:
            arrived, image_bgr = self._capture.read()
            if not arrived:
                break
            read += 1
            self.captured_s = time.perf_counter()
            place_ms = float(self._capture.get(cv2.CAP_PROP_POS_MSEC))
            last_ms = max(last_ms, place_ms)
            self.shown_s = clock(place_ms / 1000)
            yield np.asarray(image_bgr, np.uint8)
        if not read:
            raise VideoError(self._nothing_read())
        self._check_length(read, last_ms / 1000, self._container)
        if clock.uneven and self.shown_s:
            self._note_spacing(read, (read - 1) / self.shown_s)

    def close(self) -> None:
        self._capture.release()

    def _nothing_read(self) -> str:
        if self._container is None:
            return (
                f"{quoted(self.info.name)} opens but delivers no frame: its index may stand at its end, and the server "
                f"may give no parts of a file; download it, or have it rewritten with ffmpeg -movflags +faststart"
            )
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False)
        codec = code.decode("latin-1").strip("\0 ") or "unknown"
        return (
            f"{quoted(self.info.name)} holds no frame that this OpenCV can decode (codec {quoted(codec)}); "
            f"convert it to H.264, or copy it again if it is damaged"
        )

    def _note_spacing(self, read: int, rate: float) -> None:
        """Note uneven frames; where many are missing, the same would be seen of a hole in the data."""
        stated = self.info.frames
        note = f"its frames are unevenly spaced, {rate:.1f} a second in the mean; each keeps its time"
        if stated is not None and read < _FEW_SHARE * stated:
            note = f"{read} of about {stated} stated frames came: it is damaged, or {note}"
        self.info = replace(self.info, notes=(*self.info.notes, note))

    def _check_length(self, read: int, last_s: float, container: Container | None) -> None:
        """Compare how far the frames reached with how long the file, or the server of a recording, says it is.

        Where OpenCV estimates the number of frames it is wrong for uneven spacing, but the time of the last frame
        still agrees with the length. An MP4 counts its frames and its mean rate is exact, so that a gap in the middle
        shows too; one that is trimmed by an edit list plays shorter than its frames would, and says so.
        """
        if self.info.frames is None:
            return
        fps = self.info.fps
        kind = "" if container is None else container.name
        stated_s = min(self.info.frames / fps, (container.duration_s if container else None) or math.inf)
        reached_s = read / fps if kind == "MP4" else max(last_s + 1 / fps, read / fps)
        least_s, most_s = _TOLERANCE_S
        indexed = kind in ("MP4", "AVI")
        tolerance_s = least_s if indexed else min(max(least_s, _TOLERANCE_SHARE * stated_s), most_s)
        if stated_s - reached_s > tolerance_s:
            damage = (
                f"{quoted(self.info.name)} {'broke off' if container is None else 'is damaged'}: {read} of about "
                f"{self.info.frames} frames could be read, up to {reached_s:.2f} s of {stated_s:.2f} s"
            )
            if not self._allow_truncated:
                remedy = "run it again" if container is None else "copy the file again"
                raise VideoError(f"{damage}; {remedy}, {PASS_ALLOW}")
            self.info = replace(self.info, notes=(*self.info.notes, damage))
