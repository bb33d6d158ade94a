"""Frames into a video file. H.264 through PyAV where it is installed, else MPEG-4 part 2 through OpenCV.

OpenCV's wheel has no H.264 encoder, and browsers play no MPEG-4 part 2; so the extra ``video`` brings PyAV. Which of
the two wrote a file is part of the result, never a secret.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import OutputError, VideoError, quoted
from drivetl.files import atomic_file

__all__ = ["VIDEO_ENDINGS", "VideoOutput", "h264_available", "video_output"]

VIDEO_ENDINGS = (".mp4", ".mov", ".mkv")
# Constant quality of x264, 0 to 51: at 20 thin lines and small letters stay crisp. The preset trades size for time.
_CRF = "20"
_PRESET = "veryfast"
# MP4 time stamps are whole numbers; this keeps 30000/1001 and its relatives exact.
_MAX_RATE_DENOMINATOR = 1001
_BT709 = 1
_LIMITED_RANGE = 1


def h264_available() -> bool:
    """Say whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


class _Writer(Protocol):
    """An open encoder."""

    codec: str
    notes: tuple[str, ...]

    def write(self, image_bgr: NDArray[np.uint8]) -> None:
        """Add a frame, uint8 ``(height, width, 3)`` BGR of the size that the writer was opened with."""

    def close(self) -> None:
        """Write what is still held back and the index; only then can the file be played."""

    def abandon(self) -> None:
        """Let go of a file that nobody will look at."""


class VideoOutput:
    """A video whose size is that of its first frame.

    Attributes:
        codec: ``h264`` or ``mpeg4``; None before the first frame.
        notes: what the user should know about the file, one sentence each.
    """

    def __init__(self, temporary: Path, target: Path, fps: float) -> None:
        self.codec: str | None = None
        self.notes: tuple[str, ...] = ()
        self._temporary, self._target, self._fps = temporary, target, fps
        self._writer: _Writer | None = None

    def write(self, image_bgr: NDArray[np.uint8]) -> None:
        """Add a frame, uint8 ``(height, width, 3)`` BGR of the same size as the first.

        Raises:
            VideoError: the encoder does not start.
            OutputError: the file cannot be written.
        """
        if self._writer is None:
            size_wh = image_bgr.shape[1], image_bgr.shape[0]
            encoder = _H264 if h264_available() else _Mpeg4
            self._writer = encoder(self._temporary, self._fps, size_wh, self._target)
            self.codec, self.notes = self._writer.codec, self._writer.notes
        self._writer.write(image_bgr)

    def _close(self) -> None:
        if self._writer is None:
            raise VideoError(f"there is no frame to write to {quoted(self._target)}; give a source that has some")
        self._writer.close()

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()


@contextlib.contextmanager
def video_output(target: Path, *, fps: float, overwrite: bool = False) -> Iterator[VideoOutput]:
    """Yield an output that becomes ``target`` when the block ends well and vanishes when it does not.

    Args:
        target: the file, ending in one of `VIDEO_ENDINGS`.
        fps: frames for each second.
        overwrite: replace what stands there.

    Raises:
        OutputError: the target exists, or not every frame could be written.
        VideoError: the block wrote no frame.
    """
    with atomic_file(target, overwrite=overwrite) as temporary:
        output = VideoOutput(temporary, target, fps)
        try:
            yield output
            output._close()
        except BaseException:
            output._abandon()
            raise


class _H264:
    """H.264 through PyAV and x264, colours as BT.709."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int], target: Path) -> None:
        import av

        self._av, self._target = av, target
        width, height = size_wh
        odd = bool(width % 2 or height % 2)
        self._pixels = "yuv444p" if odd else "yuv420p"
        self.codec = "h264"
        self.notes: tuple[str, ...] = ()
        if odd:
            self.notes = (
                f"{width}x{height} has an odd side, so the colour is stored as yuv444p to keep the size; some browsers "
                f"and hardware players show only yuv420p",
            )
        # The index in front lets a browser start before the whole file has arrived.
        options = {"movflags": "faststart"} if path.suffix.lower() != ".mkv" else {}
        rate = Fraction(fps).limit_denominator(_MAX_RATE_DENOMINATOR)
        try:
            self._container: Any = av.open(str(path), "w", container_options=options)
            self._stream: Any = self._container.add_stream("libx264", rate=rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, self._pixels
            self._stream.options = {"crf": _CRF, "preset": _PRESET}
            context = self._stream.codec_context
            context.color_range, context.colorspace = _LIMITED_RANGE, _BT709
            context.color_primaries, context.color_trc = _BT709, _BT709
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"cannot encode {quoted(target)} as H.264 at {width}x{height}, {fps:g} frames/s: {error}"
            ) from error

    def write(self, image_bgr: NDArray[np.uint8]) -> None:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image_bgr), format="bgr24")
        self._send(frame.reformat(format=self._pixels, dst_colorspace=_BT709, dst_color_range=_LIMITED_RANGE))

    def close(self) -> None:
        self._send(None)
        with self._writing():
            self._container.close()

    def abandon(self) -> None:
        with contextlib.suppress(self._av.FFmpegError):
            self._container.close()

    def _send(self, frame: Any) -> None:
        """Encode a frame, or with None what the encoder still holds back, and write what comes out."""
        with self._writing():
            for packet in self._stream.encode(frame):
                self._container.mux(packet)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except self._av.FFmpegError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"cannot write {quoted(self._target)}: {reason}; free space or choose another place with --out"
            ) from error


class _Mpeg4:
    """MPEG-4 part 2 through OpenCV."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int], target: Path) -> None:
        width, height = size_wh
        self._path, self._target = path, target
        self._written = 0
        # OpenCV would cut an odd last row or column off without a word.
        self._pad = width % 2, height % 2
        self.codec = "mpeg4"
        self.notes: tuple[str, ...] = (
            "encoded as MPEG-4 part 2, which browsers do not play; for H.264: pip install 'drivetl[video]'",
        )
        encoded = width + self._pad[0], height + self._pad[1]
        if encoded != size_wh:
            self.notes += (
                f"MPEG-4 part 2 through OpenCV has even sides only, so the last row or column is repeated: "
                f"{width}x{height} became {encoded[0]}x{encoded[1]}",
            )
        four_cc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, four_cc, fps, encoded)
        if not self._writer.isOpened():
            raise VideoError(
                f"OpenCV cannot encode {quoted(target)} as MPEG-4 at {width}x{height}, {fps:g} frames/s; "
                f"for H.264: pip install 'drivetl[video]'"
            )

    def write(self, image_bgr: NDArray[np.uint8]) -> None:
        right, bottom = self._pad
        if right or bottom:
            padded = cv2.copyMakeBorder(image_bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            image_bgr = np.asarray(padded, np.uint8)
        self._writer.write(image_bgr)
        self._written += 1

    def close(self) -> None:
        self._writer.release()
        # OpenCV reports no failed write, not even on a full disk; the index of the finished file tells.
        check = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        found = round(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if found != self._written:
            raise OutputError(
                f"cannot write {quoted(self._target)}: {found} of {self._written} frames arrived in the file, as when "
                f"the disk is full; free space or choose another place with --out"
            )

    def abandon(self) -> None:
        self._writer.release()
