"""Where frames come from: a video file, a folder or list of pictures, a camera, a stream."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import VideoError, printable_source, quoted
from drivetl.video.clock import FrameClock
from drivetl.video.containers import Container, inspect_container
from drivetl.video.live import LiveSource, Patience
from drivetl.video.picture_source import LIST_ENDING, PictureSource, pictures_in, pictures_listed
from drivetl.video.source_info import Source, SourceInfo

__all__ = ["PICTURES_PER_S", "LiveOptions", "Source", "SourceInfo", "open_source"]

# Pictures carry no rate. Ten a second is that of KITTI's recordings.
PICTURES_PER_S = 10.0
_FALLBACK_FPS = 25.0
_MAX_FPS = 1000.0
# How much earlier than stated the last frame may end in a whole file, as a share of the length and within bounds. MP4
# and AVI index every frame; elsewhere the stated length is that of the longest track, and sound outlasts pictures.
_TOLERANCE_SHARE = 0.1
_TOLERANCE_S = (0.25, 1.5)
_MOST_FRAMES = 1e9
_MOST_DIGITS = 4
_CAMERA_DEVICE = re.compile(r"/dev/video(\d+)")
_NETWORK_TIMEOUT_MS = 5000
# Of a live stream. With more threads FFmpeg decodes as many frames at once and hands on the first of them only when the
# last has come: on eight cores, at 20 frames a second, each is 0.45 s old before anybody can know.
_LIVE_DECODERS = 1
_PASS_ALLOW = "or pass --allow-truncated to use the frames that can be read"


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How cameras and streams are read.

    Attributes:
        max_age_ms: a frame that waited longer is dropped and counted.
        reconnect_s: how long without a frame before a broken source counts as over; 0 never connects again.
        say: told one sentence whenever the connection breaks or comes back.
        stopped: asked while waiting for a frame; once it says yes, there are no more.
    """

    max_age_ms: float = 100.0
    reconnect_s: float = 60.0
    say: Callable[[str], None] = lambda text: None
    stopped: Callable[[], bool] = lambda: False


def open_source(
    source: str,
    *,
    picture_fps: float = PICTURES_PER_S,
    allow_truncated: bool = False,
    live: LiveOptions | None = None,
) -> Source:
    """Open a video file, pictures (a folder or a list), a camera by its index (``0``) or a stream by its URL.

    A URL behind which a recording of known length lies is read like a file: every frame, none dropped.

    Args:
        source: a path, digits or a URL; ``/dev/video0`` is the camera 0. A file whose name is all digits is written
            ``./0``. A ``.txt`` file lists pictures, one a line, relative to its own folder; empty lines and lines that
            begin with # are skipped.
        picture_fps: rate at which pictures play.
        allow_truncated: read a damaged video as far as it goes instead of refusing it.
        live: how cameras and streams are read; None takes the defaults.

    Raises:
        VideoError: there is no such source, it is no video, or it is cut off.
    """
    _quieten_opencv()
    live = live or LiveOptions()
    if "://" in source:
        return _open_stream(source, live, allow_truncated)
    if source.isascii() and source.isdigit():
        return _open_camera(source, live)
    path = Path(source)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        # A name that is too long or holds a NUL is no file either, and no reason for a traceback.
        if not isinstance(error, FileNotFoundError):
            reason = getattr(error, "strerror", None) or str(error)
            raise VideoError(
                f"cannot read the source {quoted(printable_source(source))}: {reason}; give another path"
            ) from error
    if path.is_dir():
        return PictureSource(path, pictures_in(path), picture_fps)
    if path.is_char_device() and (device := _CAMERA_DEVICE.fullmatch(str(path.resolve()))):
        return _open_camera(device[1], live)
    if path.exists() and not path.is_file():
        raise VideoError(
            f"the source {quoted(path)} is a pipe or a device and no video file; give a file, the index of a camera, "
            f"or a URL"
        )
    if not path.is_file():
        raise VideoError(
            f"the source {quoted(printable_source(source))} does not exist; give a video file, a folder of pictures, a "
            f"list of pictures (.txt), a camera index such as 0, or a URL"
        )
    if path.suffix.lower() == LIST_ENDING:
        return PictureSource(path, pictures_listed(path), picture_fps)
    return _open_file(path, allow_truncated)


def _quieten_opencv() -> None:
    """Keep OpenCV's and FFmpeg's own words off the terminal: what matters comes as one sentence of ours."""
    # Read by OpenCV once, when FFmpeg is first used; -8 is FFmpeg's AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _opened(capture: cv2.VideoCapture) -> cv2.VideoCapture | None:
    return capture if capture.isOpened() else None


def _connected(url: str, decoders: int | None = _LIVE_DECODERS) -> cv2.VideoCapture | None:
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _NETWORK_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _NETWORK_TIMEOUT_MS]
    if decoders is not None:
        options += [cv2.CAP_PROP_N_THREADS, decoders]
    return _opened(cv2.VideoCapture(url, cv2.CAP_FFMPEG, options))


def _open_stream(url: str, live: LiveOptions, allow_truncated: bool) -> Source:
    name = printable_source(url)
    capture = _connected(url)
    if capture is None:
        raise VideoError(
            f"the stream {quoted(name)} does not open; check its address, the network and its user name and password"
        )
    fps, notes = _plausible_fps(capture)
    frames = _stated_frames(capture)
    if frames is not None:
        notes += (f"{name} is a recording of about {frames} frames, so every frame is used",)
        # Nobody waits for its frames, so that it may be decoded on all cores; this is settled when it is opened.
        faster = _connected(url, decoders=None)
        if faster is not None:
            capture.release()
            capture = faster
        return _Capture(capture, SourceInfo("stream", name, fps, frames, notes), None, allow_truncated)

    def connect() -> _Feed | None:
        again = _connected(url)
        return None if again is None else _Feed(again)

    info = SourceInfo("stream", name, fps, None, notes, live=True)
    return _live_source(info, _Feed(capture), connect, live)


def _open_camera(index: str, live: LiveOptions) -> Source:
    # OpenCV takes its backend from the hundreds of millions; no system counts so many cameras.
    capture = _opened(cv2.VideoCapture(int(index))) if len(index) <= _MOST_DIGITS else None
    if capture is None:
        raise VideoError(
            f"camera {quoted(index)} does not open; check that it is connected and free, and that you may read "
            f"its device (on Linux /dev/video{index})"
        )
    fps, notes = _plausible_fps(capture)

    def connect() -> _Feed | None:
        again = _opened(cv2.VideoCapture(int(index)))
        return None if again is None else _Feed(again)

    return _live_source(SourceInfo("camera", f"camera {index}", fps, None, notes, True), _Feed(capture), connect, live)


def _live_source(info: SourceInfo, feed: _Feed, connect: Callable[[], _Feed | None], live: LiveOptions) -> LiveSource:
    patience = Patience(give_up_s=live.reconnect_s)
    return LiveSource(
        info, feed, connect, max_age_ms=live.max_age_ms, patience=patience, say=live.say, stopped=live.stopped
    )


class _Feed:
    """What OpenCV reads from a camera or a stream."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        # Drivers that know it then hold one frame back instead of four; the others ignore it.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture = capture

    def read(self) -> NDArray[np.uint8] | None:
        arrived, image_bgr = self._capture.read()
        return np.asarray(image_bgr, np.uint8) if arrived else None

    def close(self) -> None:
        self._capture.release()


def _stated_frames(capture: cv2.VideoCapture) -> int | None:
    """Return how many frames a recording says it has; containers without a length give huge negative numbers."""
    count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return round(count) if 0 < count < _MOST_FRAMES else None


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
    frames = _stated_frames(capture)
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
            rate = (read - 1) / self.shown_s
            note = f"its frames are unevenly spaced, {rate:.1f} a second in the mean; each keeps its time"
            self.info = replace(self.info, notes=(*self.info.notes, note))

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
                raise VideoError(f"{damage}; {remedy}, {_PASS_ALLOW}")
            self.info = replace(self.info, notes=(*self.info.notes, damage))
