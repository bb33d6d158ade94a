"""Where frames come from: a video file, a folder or list of pictures, a camera, a stream."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.containers import inspect_container
from drivetl.errors import VideoError, encodable, printable_source, quoted
from drivetl.file_url import without_file_url
from drivetl.video.live import LiveSource, Patience
from drivetl.video.picture_source import LIST_ENDING, PictureSource, pictures_in, pictures_listed
from drivetl.video.recording import PASS_ALLOW, Recording
from drivetl.video.refetched import Refetched
from drivetl.video.source_info import Source, SourceInfo

__all__ = ["PICTURES_PER_S", "LiveOptions", "Source", "SourceInfo", "check_source", "open_source"]

# Pictures carry no rate. Ten a second is that of KITTI's recordings.
PICTURES_PER_S = 10.0
_FALLBACK_FPS = 25.0
_MAX_FPS = 1000.0
_MOST_FRAMES = 1e9
_MOST_DIGITS = 4
_CAMERA_DEVICE = re.compile(r"/dev/video(\d+)")
_NETWORK_TIMEOUT_MS = 5000
# Of a live stream. With more threads FFmpeg decodes as many frames at once and hands on the first of them only when the
# last has come: on eight cores, at 20 frames a second, each is 0.45 s old before anybody can know.
_LIVE_DECODERS = 1


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

    A URL behind which a recording of known length lies is read like a file: every frame, none dropped. One that states
    no length is read like a stream, and is over when HTTP gives the same frames once more.

    Args:
        source: a path (as a ``file:`` URL too), digits or a URL; ``/dev/video0`` is the camera 0. A file whose name is
            all digits is written ``./0``. A ``.txt`` file lists pictures, one a line, relative to its own folder; empty
            lines and lines that begin with # are skipped.
        picture_fps: rate at which pictures play.
        allow_truncated: read a damaged video as far as it goes instead of refusing it; leave out pictures that cannot
            be read.
        live: how cameras and streams are read; None takes the defaults.

    Raises:
        VideoError: there is no such source, it is no video, or it is cut off.
    """
    _quieten_opencv()
    live, source = live or LiveOptions(), without_file_url(source)
    if "://" in source:
        return _open_stream(source, live, allow_truncated)
    if _is_index(source):
        return _open_camera(source, live)
    path = _existing(source)
    if path.is_dir():
        pictures, notes = pictures_in(path)
        return PictureSource(path, pictures, picture_fps, notes, allow_truncated)
    if device := _camera_device(path):
        return _open_camera(device, live)
    if path.suffix.lower() == LIST_ENDING:
        return PictureSource(path, pictures_listed(path), picture_fps, (), allow_truncated)
    return _open_file(path, allow_truncated)


def check_source(source: str) -> None:
    """Say before any work that there is no such file or folder; a camera or a stream tells once it is opened.

    Raises:
        VideoError: there is none.
    """
    source = without_file_url(source)
    if "://" not in source and not _is_index(source):
        _existing(source)


def _is_index(source: str) -> bool:
    return source.isascii() and source.isdigit()


def _camera_device(path: Path) -> str | None:
    device = _CAMERA_DEVICE.fullmatch(str(path.resolve())) if path.is_char_device() else None
    return device and device[1]


def _existing(source: str) -> Path:
    """Return the path of a file, a folder or the device of a camera that is there."""
    wanted = "a video file, a folder of pictures, a list of pictures (.txt), a camera index such as 0, or a URL"
    if not source.strip():
        # As a path it would be the folder that one stands in; but it is a variable of a script that was not set.
        raise VideoError(f"the source {quoted(source)} is empty; give {wanted}")
    path = Path(source)
    try:
        path.stat()
    except FileNotFoundError as error:
        raise VideoError(f"the source {quoted(printable_source(source))} does not exist; give {wanted}") from error
    except (OSError, ValueError) as error:
        # A name that is too long or holds a NUL is no file either, and no reason for a traceback.
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(
            f"cannot read the source {quoted(printable_source(source))}: {reason}; give another path"
        ) from error
    if not path.is_dir() and not path.is_file() and _camera_device(path) is None:
        raise VideoError(
            f"the source {quoted(path)} is a pipe or a device and no video file; give a file, the index of a camera, "
            f"or a URL"
        )
    return path


def _refuse_other_encoding(name: str, shown: str) -> None:
    """Keep a name from OpenCV that is no UTF-8: the whole process would end without a word."""
    if encodable(name) != name:
        raise VideoError(
            f"{quoted(shown)} cannot be opened: OpenCV takes names in UTF-8 only; rename it, or the folder above that "
            f"is named in another encoding"
        )


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
    _refuse_other_encoding(url, name)
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
        return Recording(capture, SourceInfo("stream", name, fps, frames, notes), None, allow_truncated)

    def connect() -> _Feed | None:
        again = _connected(url)
        return None if again is None else _Feed(again)

    info = SourceInfo("stream", name, fps, None, notes, live=True)
    # Over HTTP, cameras send pictures one by one, and recordings what the server need not say the length of.
    pictures = round(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG")
    may_end = url.lower().startswith(("http://", "https://")) and not pictures
    return _live_source(info, _Feed(capture), connect, live, Refetched() if may_end else None)


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


def _live_source(
    info: SourceInfo,
    feed: _Feed,
    connect: Callable[[], _Feed | None],
    live: LiveOptions,
    refetched: Refetched | None = None,
) -> LiveSource:
    return LiveSource(
        info,
        feed,
        connect,
        max_age_ms=live.max_age_ms,
        patience=Patience(give_up_s=live.reconnect_s),
        refetched=refetched,
        say=live.say,
        stopped=live.stopped,
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


def _open_file(path: Path, allow_truncated: bool) -> Recording:
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
        raise VideoError(f"{cut}; copy the file again, {PASS_ALLOW}")
    # An absolute path, so that no file name can be taken for one of FFmpeg's protocols.
    place = str(path.resolve())
    _refuse_other_encoding(place, place)
    capture = _opened(cv2.VideoCapture(place, cv2.CAP_FFMPEG))
    if capture is None:
        raise VideoError(
            f"{quoted(path)} is not a video that this OpenCV reads; give an MP4, MKV, AVI, MOV, WebM or TS file"
        )
    fps, notes = _plausible_fps(capture)
    frames = _stated_frames(capture)
    if container.cut_off:
        notes += (cut,)
    return Recording(capture, SourceInfo("file", str(path), fps, frames, notes), container, allow_truncated)
