"""Frames into a video file. H.264 through PyAV where it is installed with x264, else MPEG-4 part 2 through OpenCV.

OpenCV's wheel has no H.264 encoder, and browsers play no MPEG-4 part 2; so the extra ``video`` brings PyAV. Which of
the two wrote a file is part of the result, never a secret.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import OutputError, VideoError, encodable, quoted
from drivetl.files import atomic_file
from drivetl.video.h264 import H264
from drivetl.video.mpeg4 import Mpeg4

__all__ = ["VIDEO_ENDINGS", "VideoOutput", "check_target", "h264_available", "video_output"]

VIDEO_ENDINGS = (".mp4", ".mov", ".mkv")


def h264_available() -> bool:
    """Say whether PyAV is installed and has x264, which one that was built on another FFmpeg may lack."""
    if importlib.util.find_spec("av") is None:
        return False
    import av

    return "libx264" in av.codecs_available


def _h264_remedy() -> str:
    if importlib.util.find_spec("av") is None:
        return "pip install 'drivetl[video]'"
    return "this PyAV has no libx264, and its wheel has: pip install --force-reinstall --only-binary av av"


def check_target(out: Path) -> None:
    """Say before any work that a video of this name cannot be written.

    Raises:
        OutputError: the ending is not one of `VIDEO_ENDINGS`, or the name is one that OpenCV does not take.
    """
    if out.suffix.lower() not in VIDEO_ENDINGS:
        raise OutputError(f"--out {quoted(out)} must end in {', '.join(VIDEO_ENDINGS[:-1])} or {VIDEO_ENDINGS[-1]}")
    if encodable(str(out)) != str(out) and not h264_available():
        raise OutputError(
            f"--out {quoted(out)} cannot be written: without H.264 OpenCV writes it, which takes names in UTF-8 only; "
            f"choose another name, or get H.264: {_h264_remedy()}"
        )


class _Writer(Protocol):
    """An open encoder."""

    codec: str
    notes: tuple[str, ...]

    @property
    def failure(self) -> str | None:
        """Why nothing more can be written, as when the disk is full; None while all is well."""

    def write(self, image_bgr: NDArray[np.uint8], time_s: float | None) -> None:
        """Add a frame, uint8 ``(height, width, 3)`` BGR of the size that the writer was opened with.

        With a time, in seconds after the first frame, it is shown from then on; without one, where the even rate says.
        """

    def close(self) -> None:
        """Write what is still held back and the index; only then can the file be played."""

    def salvage(self) -> int:
        """After a failure, make what was written playable; return how many frames that are."""

    def abandon(self) -> None:
        """Let go of a file that nobody will look at."""


class VideoOutput:
    """A video whose size is that of its first frame.

    Attributes:
        codec: ``h264`` or ``mpeg4``; None before the first frame.
        notes: what the user should know about the file, one sentence each.
        target: the file as it will be called.
    """

    def __init__(self, temporary: Path, target: Path, fps: float) -> None:
        self.codec: str | None = None
        self.target, self._temporary, self._fps = target, temporary, fps
        self._writer: _Writer | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the file, one sentence each."""
        return () if self._writer is None else self._writer.notes

    @property
    def failed(self) -> bool:
        """Whether the system refused to write, so that further frames would be lost."""
        return self._writer is not None and self._writer.failure is not None

    def write(self, image_bgr: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Add a frame, uint8 ``(height, width, 3)`` BGR of the same size as the first.

        After a failure, as on a full disk, further frames are ignored; `failed` tells.

        Args:
            image_bgr: the frame.
            time_s: shown from then on, in seconds after the first frame; None: where the even rate says.

        Raises:
            VideoError: the encoder does not start.
        """
        if self._writer is None:
            size_wh = image_bgr.shape[1], image_bgr.shape[0]
            words = self._temporary, self._fps, size_wh, self.target
            self._writer = H264(*words) if h264_available() else Mpeg4(*words, _h264_remedy())
            self.codec = self._writer.codec
        self._writer.write(image_bgr, time_s)

    @property
    def empty(self) -> bool:
        """Whether no frame was written yet."""
        return self._writer is None

    def _finish(self, well: bool) -> OutputError | None:
        """Close the file; return an error where only a part of it could be kept."""
        writer = self._writer
        if writer is None:
            if well:
                raise VideoError(f"there is no frame to write to {quoted(self.target)}; give a source that has some")
            return None
        if well and not self.failed:
            writer.close()
        if not self.failed:
            if not well:
                writer.abandon()
            return None
        kept = writer.salvage()
        message = f"cannot write {quoted(self.target)}: {writer.failure}; free space or choose another place with --out"
        if not kept:
            raise OutputError(message)
        return OutputError(f"{message}. The first {kept} frames are kept and can be played")


@contextlib.contextmanager
def video_output(target: Path, *, fps: float, overwrite: bool = False) -> Iterator[VideoOutput]:
    """Yield an output that becomes ``target`` when the block ends well and vanishes when it does not.

    Where the disk becomes full, what was written until then is kept and can be played, and the error says so. Where the
    block ends because something else could not be written (an `OutputError`), the video is kept too.

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
        ending = _Ending(output)
        with ending:
            yield output
    if ending.partly is not None:
        raise ending.partly


class _Ending:
    """Closes an output when its block ends; where a part of it is kept, the block's own error gives way to that.

    A file beside the video that cannot be written is no reason to throw the video away, which took the whole run.
    """

    def __init__(self, output: VideoOutput) -> None:
        self.partly: OutputError | None = None
        self._output = output

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        beside = error if isinstance(error, OutputError) and not self._output.empty else None
        self.partly = self._output._finish(error is None or beside is not None)
        if self.partly is None and beside is not None:
            self.partly = OutputError(f"{beside}. The video is kept: {quoted(self._output.target)}")
            self.partly.__cause__ = beside
        return self.partly is not None and isinstance(error, OutputError | None)
