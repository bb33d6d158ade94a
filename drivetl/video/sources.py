"""Where frames come from: a video file, a folder of pictures, a camera, a stream."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.data.pictures import decode_picture, is_picture
from drivetl.errors import VideoError, quoted
from drivetl.video.containers import Container, inspect_container

__all__ = ["PICTURES_PER_S", "Source", "SourceInfo", "open_source", "printable_source"]

# Pictures carry no rate. Ten a second is that of KITTI's recordings.
PICTURES_PER_S = 10.0
_FALLBACK_FPS = 25.0
_MAX_FPS = 1000.0
# How much earlier than stated the last frame may end in a whole file, as a share of the length and within bounds. MP4
# and AVI index every frame; elsewhere the stated length is that of the longest track, and sound outlasts pictures.
_TOLERANCE_SHARE = 0.1
_TOLERANCE_S = (0.25, 1.5)
_PASS_ALLOW = "or pass --allow-truncated to use the frames that can be read"

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
    """

    kind: Kind
    name: str
    fps: float
    frames: int | None
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """An open source."""

    @property
    def info(self) -> SourceInfo:
        """What is known; notes may be added until the last frame."""

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Yield frames, uint8 ``(height, width, 3)`` BGR; each is the caller's to keep and to draw on.

        Raises:
            VideoError: the source is damaged or ends before its time.
            ImageError: a picture of a folder cannot be read.
        """

    def close(self) -> None:
        """Let go of the file or device."""


def open_source(source: str, *, picture_fps: float = PICTURES_PER_S, allow_truncated: bool = False) -> Source:
    """Open a video file, a folder of pictures, a camera by its index (``0``) or a stream by its URL.

    Args:
        source: a path, digits or a URL. A file whose name is all digits is written ``./0``.
        picture_fps: rate at which the pictures of a folder play.
        allow_truncated: read a damaged video as far as it goes instead of refusing it.

    Raises:
        VideoError: there is no such source, it is no video, or it is cut off.
    """
    _quieten_opencv()
    if "://" in source:
        capture = _opened(cv2.VideoCapture(source, cv2.CAP_FFMPEG))
        if capture is None:
            raise VideoError(
                f"the stream {quoted(printable_source(source))} does not open; check its address, the network and "
                f"its user name and password"
            )
        return _Capture(capture, SourceInfo("stream", printable_source(source), *_rate(capture)))
    if source.isascii() and source.isdigit():
        capture = _opened(cv2.VideoCapture(int(source)))
        if capture is None:
            raise VideoError(
                f"camera {quoted(source)} does not open; check that it is connected and free, and that you may read "
                f"its device (on Linux /dev/video{source})"
            )
        return _Capture(capture, SourceInfo("camera", f"camera {source}", *_rate(capture)))
    path = Path(source)
    if path.is_dir():
        return _PictureFolder(path, picture_fps)
    if not path.is_file():
        raise VideoError(
            f"the source {quoted(source)} does not exist; give a video file, a folder of pictures, a camera index "
            f"such as 0, or a URL"
        )
    return _open_file(path, allow_truncated)


def printable_source(source: str) -> str:
    """Return a source without what is secret in it: user name, password and query of a URL."""
    if "://" not in source:
        return source
    scheme, _, rest = source.partition("://")
    # Passwords may hold / ? # @, so everything up to the last @ is taken for secret.
    _, at, rest = rest.rpartition("@")
    address, query, _ = rest.partition("?")
    return f"{scheme}://{'…@' if at else ''}{address}{'?…' if query else ''}"


def _quieten_opencv() -> None:
    """Keep OpenCV's and FFmpeg's own words off the terminal: what matters comes as one sentence of ours."""
    # Read by OpenCV once, when FFmpeg is first used; -8 is FFmpeg's AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _opened(capture: cv2.VideoCapture) -> cv2.VideoCapture | None:
    return capture if capture.isOpened() else None


def _rate(capture: cv2.VideoCapture) -> tuple[float, None, tuple[str, ...]]:
    """Return the fields of `SourceInfo` after the name, for a source without an end."""
    fps, notes = _plausible_fps(capture)
    return fps, None, notes


def _plausible_fps(capture: cv2.VideoCapture) -> tuple[float, tuple[str, ...]]:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    if math.isfinite(fps) and 0 < fps <= _MAX_FPS:
        return fps, ()
    return _FALLBACK_FPS, (f"the source states no usable frame rate ({fps:g}); {_FALLBACK_FPS:g} a second is taken",)


def _open_file(path: Path, allow_truncated: bool) -> _Capture:
    try:
        container = inspect_container(path)
    except OSError as error:
        raise VideoError(f"cannot read {quoted(path)}: {error.strerror or error}") from error
    if not container.size_bytes:
        raise VideoError(f"{quoted(path)} is empty (0 bytes); copy the file again")
    if not container.has_index:
        raise VideoError(
            f"{quoted(path)} cannot be played: it is cut off before its index (the moov box of an MP4), as when a "
            f"recorder loses power or a copy stops; copy the file again"
        )
    cut = (
        f"{quoted(path)} is cut off: its {container.name} structure needs {container.expected_bytes} bytes and the "
        f"file has {container.size_bytes}"
    )
    if container.cut_off and not allow_truncated:
        raise VideoError(f"{cut}; copy the file again, {_PASS_ALLOW}")
    # An absolute path, so that no file name can be taken for one of FFmpeg's protocols.
    capture = _opened(cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG))
    if capture is None:
        raise VideoError(
            f"{quoted(path)} is not a video that this OpenCV reads; give an MP4, MKV, AVI, MOV, WebM or TS file"
        )
    fps, notes = _plausible_fps(capture)
    count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    # Containers without a length give huge negative numbers.
    frames = round(count) if 0 < count < 1e9 else None
    if container.cut_off:
        notes += (cut,)
    return _Capture(capture, SourceInfo("file", str(path), fps, frames, notes), container, allow_truncated)


class _Capture:
    """What OpenCV's VideoCapture reads."""

    def __init__(
        self,
        capture: cv2.VideoCapture,
        info: SourceInfo,
        container: Container | None = None,
        allow_truncated: bool = False,
    ) -> None:
        self.info = info
        self._capture = capture
        self._container = container
        self._allow_truncated = allow_truncated

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        read, last_ms = 0, 0.0
        while True:
            arrived, image_bgr = self._capture.read()
            if not arrived:
                break
            read += 1
            last_ms = max(last_ms, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)))
            yield np.asarray(image_bgr, np.uint8)
        if not read:
            raise VideoError(self._nothing_read())
        if self._container is not None:
            self._check_length(read, last_ms / 1000, self._container)

    def close(self) -> None:
        self._capture.release()

    def _nothing_read(self) -> str:
        if self._container is None:
            return f"{quoted(self.info.name)} opens but delivers no frame; check that nothing else uses it"
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False)
        codec = code.decode("latin-1").strip("\0 ") or "unknown"
        return (
            f"{quoted(self.info.name)} holds no frame that this OpenCV can decode (codec {quoted(codec)}); "
            f"convert it to H.264, or copy it again if it is damaged"
        )

    def _check_length(self, read: int, last_s: float, container: Container) -> None:
        """Compare how far the frames reached with how long the file says it is.

        Where OpenCV estimates the number of frames it is wrong for uneven spacing, but the time of the last frame
        still agrees with the length. An MP4 counts its frames and its mean rate is exact, so that a gap in the middle
        shows too; one that is trimmed by an edit list plays shorter than its frames would, and says so.
        """
        if self.info.frames is None:
            return
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        stated_s = min(self.info.frames / fps, container.duration_s or math.inf)
        reached_s = read / fps if container.name == "MP4" else max(last_s + 1 / fps, read / fps)
        least_s, most_s = _TOLERANCE_S
        indexed = container.name in ("MP4", "AVI")
        tolerance_s = least_s if indexed else min(max(least_s, _TOLERANCE_SHARE * stated_s), most_s)
        if stated_s - reached_s > tolerance_s:
            damage = (
                f"{quoted(self.info.name)} is damaged: {read} of about {self.info.frames} frames could be read, up to "
                f"{reached_s:.2f} s of {stated_s:.2f} s"
            )
            if not self._allow_truncated:
                raise VideoError(f"{damage}; copy the file again, {_PASS_ALLOW}")
            self.info = replace(self.info, notes=(*self.info.notes, damage))


class _PictureFolder:
    """The pictures of a folder in natural order: ``frame2`` before ``frame10``."""

    def __init__(self, folder: Path, fps: float) -> None:
        try:
            self._pictures = sorted((p for p in folder.iterdir() if is_picture(p) and p.is_file()), key=_natural)
        except OSError as error:
            raise VideoError(f"cannot read the folder {quoted(folder)}: {error.strerror or error}") from error
        if not self._pictures:
            raise VideoError(
                f"the folder {quoted(folder)} holds no picture (jpg, jpeg, png, bmp, webp); give the folder that "
                f"holds them directly"
            )
        self.info = SourceInfo("pictures", str(folder), fps, len(self._pictures))

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        for path in self._pictures:
            yield decode_picture(path).copy()

    def close(self) -> None:
        """Nothing stays open between pictures."""


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Order digits by their value; the bare name decides between equals (``1.jpg``, ``01.jpg``)."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(1, int(part)) if index % 2 else (0, part) for index, part in enumerate(parts)], path.name
