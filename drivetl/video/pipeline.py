"""From a source through a detector to an annotated video, one frame after the other."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import OutputError, VideoError, quoted
from drivetl.files import atomic_file
from drivetl.progress import Progress, silent
from drivetl.runtime import Detections, Detector
from drivetl.video.draw import annotate, draw_status
from drivetl.video.sources import PICTURES_PER_S, Source, SourceInfo, open_source
from drivetl.video.window import Window
from drivetl.video.writer import VIDEO_ENDINGS, VideoWriter, fit_into, open_writer

__all__ = ["DETECTOR_STAGES", "VideoResult", "run_video"]

DETECTOR_STAGES = ("preprocess", "inference", "postprocess")
_MS_PER_S = 1000.0
# The figures on the picture are of the latest two seconds or so, and stand still long enough to be read.
_WINDOW_FRAMES = 60
_REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What a run did.

    Attributes:
        frames_in: frames that the source delivered.
        frames_out: frames that were detected, annotated and handed on.
        dropped: frames that were delivered and not handed on.
        fps: frames handed on for each second of wall-clock time, reading and writing included.
        source_fps: frames for each second of the source's own playing time; the written file has the same.
        latency_ms: ``{stage: {"p50": …, "p99": …}}`` in milliseconds. The stages are ``read``, ``preprocess``,
            ``inference``, ``postprocess``, ``draw``, ``write``, and ``end_to_end`` for the three of the detector
            together, which is what a car pays. The first frame runs through the detector once more beforehand, so
            that no figure holds the start-up.
        per_class: detections by class name, most frequent first, summed over frames (not distinct objects).
        codec: of the written file: ``h264`` or ``mpeg4``; None if nothing was written.
        size_wh: width and height of the frames in pixels.
        interrupted: whether the user stopped the run before the source ended.
        notes: what the user should know, one sentence each.
    """

    frames_in: int
    frames_out: int
    dropped: int
    fps: float
    source_fps: float
    latency_ms: dict[str, dict[str, float]]
    per_class: dict[str, int]
    codec: str | None
    size_wh: tuple[int, int]
    interrupted: bool
    notes: tuple[str, ...]


class _Sink(Protocol):
    """Where annotated frames go."""

    def write(self, image_bgr: NDArray[np.uint8]) -> None: ...


def run_video(
    source: str,
    detector: Detector,
    out: Path | None,
    *,
    model_name: str = "",
    confidence: float | None = None,
    show: bool = False,
    limit: int | None = None,
    overwrite: bool = False,
    picture_fps: float = PICTURES_PER_S,
    allow_truncated: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> VideoResult:
    """Detect, annotate and write every frame of a source.

    A file keeps its frame rate (that of unevenly spaced frames is their mean) and its size. The size of a folder of
    pictures is that of the first; others are fitted into it.

    Args:
        source: see `drivetl.video.open_source`.
        detector: an open bundle.
        out: the video to write, ending in .mp4, .mov or .mkv; None writes none.
        model_name: stands in the line of figures.
        confidence: threshold in [0, 1]; None takes the detector's.
        show: also open a window; the key q closes it and ends the run.
        limit: stop after this many frames.
        overwrite: replace what stands at ``out``.
        picture_fps: rate of a folder of pictures.
        allow_truncated: use a damaged video as far as it goes.
        stopped: asked before every frame; once it says yes, what was written so far becomes a playable file.
        progress: told the frames.

    Raises:
        VideoError: the source cannot be used, is damaged or ends before its time, or the video cannot be encoded.
        ImageError: a picture of a folder cannot be read.
        OutputError: ``out`` exists, cannot be written or is the source itself.
    """
    if out is not None:
        _check_out(source, out)
    with contextlib.closing(open_source(source, picture_fps=picture_fps, allow_truncated=allow_truncated)) as opened:
        with contextlib.ExitStack() as stack:
            window = stack.enter_context(Window(opened.info.name)) if show else None
            output = stack.enter_context(_Output(out, overwrite, opened.info)) if out is not None else None
            run = _Run(detector, model_name, detector.confidence if confidence is None else confidence)
            end = _Ending(limit, lambda: stopped() or (window is not None and window.closed))
            run.carry_out(opened, [sink for sink in (output, window) if sink is not None], end, progress)
            if output is not None:
                output.finish()
    return run.result(opened.info, output, interrupted=end.interrupted)


def _check_out(source: str, out: Path) -> None:
    if out.suffix.lower() not in VIDEO_ENDINGS:
        raise OutputError(f"--out {quoted(out)} must end in {', '.join(VIDEO_ENDINGS[:-1])} or {VIDEO_ENDINGS[-1]}")
    if out.is_dir():
        raise OutputError(f"--out {quoted(out)} is a folder; give the name of a video file")
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise OutputError(f"--out {quoted(out)} is the source itself; choose another --out")
