"""From a source through a detector to an annotated video, one frame after the other."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivetl.config import StrictModel
from drivetl.errors import OutputError, quoted
from drivetl.progress import Progress, silent
from drivetl.runtime import Detector
from drivetl.video.draw import annotate, fit_into
from drivetl.video.source_info import Source, SourceInfo
from drivetl.video.sources import PICTURES_PER_S, open_source
from drivetl.video.window import Window
from drivetl.video.writer import VIDEO_ENDINGS, VideoOutput, video_output

__all__ = ["STAGES", "VideoResult", "VideoSettings", "run_video"]

STAGES = ("read", "preprocess", "inference", "postprocess", "end_to_end", "draw", "write")
_MS_PER_S = 1000.0
# The figures on the picture stand still for half a second, long enough to be read.
_REFRESH_S = 0.5
_MEDIAN_FRAMES = 30


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


class VideoSettings(StrictModel):
    """How to run; the defaults are those of ``drivetl video``.

    Attributes:
        confidence: threshold in [0, 1]; None takes the detector's.
        show: also open a window; the key q closes it and ends the run.
        limit: stop after this many frames.
        picture_fps: rate at which the pictures of a folder play.
        allow_truncated: use a damaged video as far as it can be read.
    """

    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    show: bool = False
    limit: Annotated[int, Field(ge=1)] | None = None
    picture_fps: Annotated[float, Field(gt=0, le=1000)] = PICTURES_PER_S
    allow_truncated: bool = False


def run_video(
    source: str,
    detector: Detector,
    out: Path | None,
    settings: VideoSettings | None = None,
    *,
    model_name: str = "",
    overwrite: bool = False,
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
        settings: None takes the defaults.
        model_name: stands in the line of figures.
        overwrite: replace what stands at ``out``.
        stopped: asked before every frame; once it says yes, what was written so far becomes a playable file.
        progress: told the frames.

    Raises:
        VideoError: the source cannot be used, is damaged or ends before its time, or the video cannot be encoded.
        ImageError: a picture of a folder cannot be read.
        OutputError: ``out`` exists, cannot be written or is the source itself.
        KeyboardInterrupt: the run was stopped before its first frame, so there is nothing to keep.
    """
    settings = settings or VideoSettings()
    if out is not None:
        _check_out(source, out)
    run = _Run(detector, model_name, detector.confidence if settings.confidence is None else settings.confidence)
    with contextlib.ExitStack() as stack:
        opened = open_source(source, picture_fps=settings.picture_fps, allow_truncated=settings.allow_truncated)
        stack.callback(opened.close)
        if settings.show:
            run.window = stack.enter_context(Window(f"drivetl: {opened.info.name}"))
        if out is not None:
            run.output = stack.enter_context(video_output(out, fps=opened.info.fps, overwrite=overwrite))
        run.carry_out(opened, settings.limit, stopped, progress)
    return run.result(opened.info)


def _check_out(source: str, out: Path) -> None:
    if out.suffix.lower() not in VIDEO_ENDINGS:
        raise OutputError(f"--out {quoted(out)} must end in {', '.join(VIDEO_ENDINGS[:-1])} or {VIDEO_ENDINGS[-1]}")
    if out.is_dir():
        raise OutputError(f"--out {quoted(out)} is a folder; give the name of a video file")
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise OutputError(f"--out {quoted(out)} is the source itself; choose another --out")


class _Run:
    """One run from the first frame to the last, and what was measured on the way."""

    def __init__(self, detector: Detector, model_name: str, confidence: float) -> None:
        self.output: VideoOutput | None = None
        self.window: Window | None = None
        self._detector = detector
        self._confidence = confidence
        self._badge = f"{model_name}  {detector.contract.precision}  {detector.provider}".strip()
        self._frames_in = self._frames_out = 0
        self._interrupted = self._ran_dry = False
        self._size_wh = (0, 0)
        self._fitted = 0
        self._per_class: Counter[int] = Counter()
        self._taken_ms: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self._started_s = self._ended_s = 0.0
        self._figures: tuple[str, ...] = ()
        self._figures_s = -_REFRESH_S
        self._figures_frames = 0

    def carry_out(self, source: Source, limit: int | None, stopped: Callable[[], bool], progress: Progress) -> None:
        """Take every frame from the source to where it goes.

        Raises:
            KeyboardInterrupt: the run was stopped before its first frame, so there is nothing to keep.
        """
        frames = source.frames()
        total = source.info.frames if limit is None else min(limit, source.info.frames or limit)
        progress("frames", 0, total)
        self._started_s = self._ended_s = time.perf_counter()
        while limit is None or self._frames_in < limit:
            if stopped() or (self.window is not None and self.window.closed):
                self._interrupted = True
                break
            begun_s = time.perf_counter()
            image_bgr = next(frames, None)
            if image_bgr is None:
                self._ran_dry = True
                break
            if not self._frames_in:
                self._warm_up(image_bgr)
            else:
                self._note("read", begun_s)
            self._frames_in += 1
            self._step(image_bgr)
            self._frames_out += 1
            self._ended_s = time.perf_counter()
            progress("frames", self._frames_out, total)
        if not self._frames_out:
            raise KeyboardInterrupt

    def _warm_up(self, image_bgr: NDArray[np.uint8]) -> None:
        """Run the first frame once untimed: it pays for memory and, on a GPU, for compiled kernels."""
        self._size_wh = image_bgr.shape[1], image_bgr.shape[0]
        self._detector(image_bgr)
        self._started_s = time.perf_counter()

    def _note(self, stage: str, begun_s: float) -> float:
        """Record how long a stage took since ``begun_s``; return the time now."""
        now_s = time.perf_counter()
        self._taken_ms[stage].append((now_s - begun_s) * _MS_PER_S)
        return now_s

    def _step(self, image_bgr: NDArray[np.uint8]) -> None:
        begun_s = now_s = time.perf_counter()
        tensor, geometry = self._detector.preprocess(image_bgr)
        now_s = self._note("preprocess", now_s)
        raw = self._detector.infer(tensor)
        now_s = self._note("inference", now_s)
        detections = self._detector.postprocess(raw, geometry, confidence=self._confidence)
        now_s = self._note("postprocess", now_s)
        self._note("end_to_end", begun_s)
        self._per_class.update(detections.class_id.tolist())
        if self.output is None and self.window is None:
            return
        now_s = time.perf_counter()
        names = self._detector.contract.class_names
        if image_bgr.shape[1::-1] != self._size_wh:
            image_bgr, detections = fit_into(image_bgr, detections, self._size_wh)
            self._fitted += 1
        annotate(image_bgr, detections, names, figures=self._figures_now(), badge=self._badge)
        now_s = self._note("draw", now_s)
        if self.output is not None:
            self.output.write(image_bgr)
            self._note("write", now_s)
        if self.window is not None:
            self.window.show(image_bgr)

    def _figures_now(self) -> tuple[str, ...]:
        """Return the figures that stand on the frame, the most important first."""
        now_s = time.perf_counter()
        if now_s - self._figures_s >= _REFRESH_S:
            latest = self._taken_ms["end_to_end"]
            frames = self._frames_in - self._figures_frames
            since_s = self._figures_s if self._figures else self._started_s
            self._figures = (
                f"end-to-end {np.median(latest[-_MEDIAN_FRAMES:]):.1f} ms",
                f"p99 {np.percentile(latest, 99):.1f} ms",
                f"{frames / (now_s - since_s):.0f} FPS",
            )
            self._figures_s, self._figures_frames = now_s, self._frames_in
        return self._figures

    def result(self, info: SourceInfo) -> VideoResult:
        """Return what was done and measured."""
        names = self._detector.contract.class_names
        notes = info.notes
        if self._ran_dry and info.kind in ("camera", "stream"):
            notes += (f"{info.name} stopped delivering after {self._frames_in} frames",)
        if self._fitted:
            width, height = self._size_wh
            notes += (f"{self._fitted} frames of another size were fitted into {width}x{height}",)
        if self.output is not None:
            notes += self.output.notes
        return VideoResult(
            frames_in=self._frames_in,
            frames_out=self._frames_out,
            dropped=self._frames_in - self._frames_out,
            fps=self._frames_out / (self._ended_s - self._started_s),
            source_fps=info.fps,
            latency_ms={
                stage: {"p50": float(np.percentile(taken, 50)), "p99": float(np.percentile(taken, 99))}
                for stage, taken in self._taken_ms.items()
                if taken
            },
            per_class={names[index]: count for index, count in self._per_class.most_common()},
            codec=None if self.output is None else self.output.codec,
            size_wh=self._size_wh,
            interrupted=self._interrupted,
            notes=notes,
        )
