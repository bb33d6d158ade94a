"""H.264 through PyAV and x264, written so that a full disk costs the last two seconds and not the whole video.

While it grows, an MP4 is written in fragments (ISO/IEC 14496-12, movie fragments), each of which can be played without
what follows. At the end the same packets are copied into a file with one index in front, which starts at once in every
browser.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.containers import whole_fragments_bytes
from drivetl.cores import usable_cores
from drivetl.errors import OutputError, VideoError, quoted

__all__ = ["H264"]

# Constant quality of x264, 0 to 51: thin lines and small letters stay crisp. The fastest preset keeps them best and
# takes a third of the time of ``veryfast``, for 1.8 times the size. On two cores, encoding would hold up a network.
_CRF = "21"
_PRESET = "ultrafast"
# MP4 time stamps are whole numbers; this keeps 30000/1001 and its relatives exact, and one frame in so many seconds.
_MAX_RATE_DENOMINATOR = 1001
_FRAGMENT_S = 2.0
_MOST_ENCODER_THREADS = 8  # beyond that, x264 gains little on a picture of a camera's size
_BT709 = 1
_LIMITED_RANGE = 1
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def _encoder_threads() -> int:
    """Return how many threads x264 may use: half of the cores that are ours.

    By itself it takes 1.5 for each core, and on two of them they push the inference thread aside: 34 frames a second
    where one thread gives 36 (int8 at 480 pixels, 960x540 video).
    """
    return min(_MOST_ENCODER_THREADS, max(1, usable_cores() // 2))


def _rate(fps: float) -> Fraction:
    """Return the rate as a fraction. Below one a second its inverse is rounded: 1/3600 would be rounded to none."""
    if fps < 1:
        return 1 / Fraction(1 / fps).limit_denominator(_MAX_RATE_DENOMINATOR)
    return Fraction(fps).limit_denominator(_MAX_RATE_DENOMINATOR)


class H264:
    """An H.264 file that is being written; see `drivetl.video.writer` for what its methods promise."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int], target: Path) -> None:
        import av

        self._av, self._path, self._target = av, path, target
        width, height = size_wh
        odd = bool(width % 2 or height % 2)
        self._pixels = "yuv444p" if odd else "yuv420p"
        self._matroska = path.suffix.lower() == ".mkv"
        self.codec = "h264"
        self.notes: tuple[str, ...] = ()
        if odd:
            self.notes = (
                f"{width}x{height} has an odd side, so the colour is stored as yuv444p to keep the size; some browsers "
                f"and hardware players show only yuv420p",
            )
        self._file = _FailSafeFile(path)
        rate = _rate(fps)
        options = {} if self._matroska else dict(_FRAGMENTED)
        kind = "matroska" if self._matroska else path.suffix.lower()[1:]
        try:
            self._container: Any = av.open(self._file, "w", format=kind, container_options=options)
            self._stream: Any = self._container.add_stream("libx264", rate=rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, self._pixels
            between_keys = min(250, max(1, round(_FRAGMENT_S * fps)))
            self._stream.options = {"crf": _CRF, "preset": _PRESET, "g": str(between_keys)}
            context = self._stream.codec_context
            context.thread_count = _encoder_threads()
            context.color_range, context.colorspace = _LIMITED_RANGE, _BT709
            context.color_primaries, context.color_trc = _BT709, _BT709
        except (av.FFmpegError, ValueError) as error:
            raise self._refused(size_wh, fps, error) from error
        self._converter = av.video.reformatter.VideoReformatter()
        self._opened = False
        self._size_wh, self._fps = size_wh, fps
        self._count, self._last_tick = 0, -1
        self._ticks: dict[int, int] = {}
        self._tick_s = self._frame_ticks = 0.0
        self._timed = False

    @property
    def failure(self) -> str | None:
        """Why the file cannot grow any further; None while it can."""
        error = self._file.error
        return None if error is None else error.strerror or str(error)

    def write(self, image_bgr: NDArray[np.uint8], time_s: float | None) -> None:
        if self._file.error is not None:
            return
        if not self._opened:
            self._open()
        # The converter is kept, because setting one up costs as much as a frame; what it gives is a copy, so that the
        # encoder never holds the picture, which its owner may draw on again.
        frame = self._av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image_bgr), format="bgr24")
        frame = self._converter.reformat(
            frame, format=self._pixels, dst_colorspace=_BT709, dst_color_range=_LIMITED_RANGE
        )
        self._timed |= time_s is not None
        tick = round(self._count * self._frame_ticks if time_s is None else time_s / self._tick_s)
        self._last_tick = self._ticks[self._count] = max(self._last_tick + 1, tick)
        self._count += 1
        self._send(frame)

    def close(self) -> None:
        self._send(None)
        with self._writing():
            self._container.close()
        self._file.close()
        if self._file.error is None and not self._matroska:
            self._put_index_in_front()

    def salvage(self) -> int:
        """Cut the file after its last whole fragment; return how many frames can be played."""
        self._container.close()
        self._file.close()
        try:
            if not self._matroska:
                with self._path.open("r+b") as handle:
                    handle.truncate(whole_fragments_bytes(self._path))
            return self._playable_frames()
        except OSError:
            return 0

    def abandon(self) -> None:
        self._file.error = self._file.error or OSError("abandoned")  # nothing of the rest is written
        self._container.close()
        self._file.close()

    def _open(self) -> None:
        try:
            self._stream.codec_context.open()
            with self._writing():
                self._container.start_encoding()  # which fixes the clock of the file
            self._tick_s = float(self._stream.time_base)
            self._frame_ticks = float(1 / (self._stream.codec_context.framerate * self._stream.time_base))
        except (self._av.FFmpegError, ValueError) as error:
            raise self._refused(self._size_wh, self._fps, error) from error
        self._opened = True

    def _refused(self, size_wh: tuple[int, int], fps: float, error: Exception) -> VideoError:
        size = f"{size_wh[0]}x{size_wh[1]}"
        return VideoError(f"cannot encode {quoted(self._target)} as H.264 at {size}, {fps:g} frames/s: {error}")

    def _send(self, frame: Any) -> None:
        """Encode a frame, or with None what the encoder still holds back, and write what comes out."""
        with self._writing():
            for packet in self._stream.encode(frame):
                number = packet.dts
                if self._timed:
                    self._retime(packet)
                self._container.mux(packet)
                self._ticks.pop(number, None)

    def _retime(self, packet: Any) -> None:
        """Give a packet the time of its frame.

        The encoder counts frames, so that evenly spaced ones, of which nobody knows beforehand that they stay so, give
        the same bytes with times and without. Its decoding times are numbers of frames too, the first few negative.
        """
        shown, decoded = packet.pts, packet.dts
        packet.pts = self._ticks[shown]
        packet.dts = self._ticks[decoded] if decoded >= 0 else round(decoded * self._frame_ticks)
        packet.duration = round(self._frame_ticks)
        packet.time_base = self._stream.time_base

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except self._av.FFmpegError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"cannot write {quoted(self._target)}: {reason}; free space or choose another place with --out"
            ) from error

    def _put_index_in_front(self) -> None:
        """Copy the packets into a file with one index in front; where there is no room for it, leave the fragments."""
        av = self._av
        indexed = self._path.with_name(f"{self._path.stem}-index{self._path.suffix}")
        try:
            with (
                av.open(str(self._path)) as source,
                av.open(str(indexed), "w", container_options={"movflags": "faststart"}) as copy,
            ):
                track = source.streams.video[0]
                stream = copy.add_stream_from_template(track)
                for packet in source.demux(track):
                    if packet.dts is not None:
                        packet.stream = stream
                        copy.mux(packet)
            indexed.replace(self._path)
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.notes += (f"the index stays spread through the file, which some players dislike ({reason})",)
        finally:
            indexed.unlink(missing_ok=True)

    def _playable_frames(self) -> int:
        count = 0
        try:
            with self._av.open(str(self._path)) as source:
                for packet in source.demux(video=0):
                    count += packet.dts is not None
        except self._av.FFmpegError:
            return count
        return count


class _FailSafeFile(io.RawIOBase):
    """A file that, once the system refuses a write, stays as it is and swallows the rest without a word.

    The muxer would otherwise write its closing structures over what is playable.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._handle = path.open("wb", buffering=0)
        self._place = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        try:
            while self.error is None and view:
                view = view[self._handle.write(view) or 0 :]
        except OSError as error:
            self.error = error
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        if self.error is None:
            self._place = self._handle.seek(offset, whence)
        else:
            self._place = offset if whence == 0 else self._place + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        self._handle.close()
        super().close()
