"""What every kind of source says about itself, and what it promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kind", "Source", "SourceInfo"]

Kind = Literal["file", "pictures", "camera", "stream"]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source before its first frame.

    Attributes:
        kind: ``file``, ``pictures``, ``camera`` or ``stream``.
        name: safe to print: without the password of a URL.
        fps: frames for each second of playing time.
        frames: how many there will be (for some containers an estimate); None for cameras, streams, unknown.
        notes: what the user should know, one sentence each.
        live: whether frames come at their own time and are lost if nobody takes them.
        unreadable: pictures that could not be read and were left out so far.
    """

    kind: Kind
    name: str
    fps: float
    frames: int | None
    notes: tuple[str, ...] = ()
    live: bool = False
    unreadable: int = 0


class Source(Protocol):
    """An open source.

    Attributes:
        dropped: frames that came in and were not yielded; files drop none.
        captured_s: when the frame that was yielded last was decoded, on the clock of ``time.perf_counter``.
        shown_s: when it is to be shown, in seconds after the first; None where its number divided by the rate says so.
    """

    dropped: int
    captured_s: float
    shown_s: float | None

    @property
    def info(self) -> SourceInfo:
        """What is known; notes may be added, and what is unreadable be counted, until the last frame."""

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Yield frames, uint8 ``(height, width, 3)`` BGR; each is the caller's to keep and to draw on.

        Raises:
            VideoError: the source is damaged or ends before its time.
            ImageError: a picture of a folder cannot be read.
        """

    def close(self) -> None:
        """Let go of the file or device."""
