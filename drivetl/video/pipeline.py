"""From a source through one or two models to an annotated video. Reading, inference, drawing and writing overlap."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ImageError, VideoError, quoted
from drivetl.video.admission import Admission
from drivetl.video.draw import fit_into
from drivetl.video.intake import Intake
from drivetl.video.lane import Job, lanes_of, percentiles
from drivetl.video.line import Line
from drivetl.video.meter import FigureLine, Latencies, Stopwatch
from drivetl.video.outputs import DetectionLines, MotLines, check_outputs
from drivetl.video.settings import Around, Controls, Model, Outputs, VideoResult, VideoSettings
from drivetl.video.source_info import Source
from drivetl.video.sources import LiveOptions, open_source
from drivetl.video.stills import Stills
from drivetl.video.tracking import tracking_available
from drivetl.video.weathered import VideoWeather
from drivetl.video.window import Window
from drivetl.video.writer import VideoOutput, video_output

__all__ = ["run_video"]

# Frames in each queue between two threads, fewer where they are large.
_MOST_QUEUED = 3
_QUEUE_BYTES = 64_000_000
# Of a camera or stream: up to the network, from there to the picture, and out.
_LIVE_STAGES = 3


def run_video(
    source: str,
    models: Sequence[Model],
    outputs: Outputs | None = None,
    settings: VideoSettings | None = None,
    around: Around | None = None,
) -> VideoResult:
    """Detect, track, annotate and write every frame of a source; of cameras and streams the newest ones.

    A file keeps its frame rate and its size. Frames that are unevenly spaced keep their own times, which the fallback
    writer cannot store and says so. The size of a folder of pictures is that of the first, as is that of a video whose
    size changes; other frames are fitted into it.

    Args:
        source: see `drivetl.video.open_source`.
        models: one, or two that are drawn side by side.
        outputs: None writes nothing.
        settings: None takes the defaults.
        around: None asks and tells nobody.

    Raises:
        VideoError: the source cannot be used, is damaged or ends before its time, or the video cannot be encoded.
        ImageError: a picture cannot be read; what came of those before it is kept.
        ConfigError: a class or a kind of weather is unknown, or tracks are to be written and none are followed.
        OutputError: an output exists, cannot be written or is the source itself.
        KeyboardInterrupt: the run was stopped before its first frame, so there is nothing to keep.
    """
    outputs, settings, around = outputs or Outputs(), settings or VideoSettings(), around or Around()
    check_outputs(outputs, source, settings.track, bundles=[model.detector.bundle.path for model in models])
    confidence = settings.confidence
    controls = Controls(models[0].detector.confidence if confidence is None else confidence)

    def stopped() -> bool:
        return controls.ended or around.stopped()

    with contextlib.ExitStack() as stack:
        live = LiveOptions(settings.max_age_ms, settings.reconnect_s, around.tell, stopped)
        opened = open_source(
            source, picture_fps=settings.picture_fps, allow_truncated=settings.allow_truncated, live=live
        )
        stack.callback(opened.close)
        run = _Run(opened, models, settings, around, controls, stopped)
        run.open_outputs(outputs, stack)
        run.carry_out()
    return run.result()


class _Run:
    """One run from the first frame to the last, and what was measured on the way."""

    def __init__(
        self,
        source: Source,
        models: Sequence[Model],
        settings: VideoSettings,
        around: Around,
        controls: Controls,
        stopped: Callable[[], bool],
    ) -> None:
        self._source, self._settings, self._around, self._controls = source, settings, around, controls
        self._stopped = stopped
        self._live = source.info.live
        self._fps = source.info.fps
        self._lanes = lanes_of(models, settings, self._fps, _MOST_QUEUED + 2, around.say)
        self._weather = VideoWeather(settings.weather, self._fps)
        self._video: VideoOutput | None = None
        self._window: Window | None = None
        self._lines: DetectionLines | None = None
        self._mot: MotLines | None = None
        self._stills: Stills | None = None
        self._admission = Admission(_LIVE_STAGES) if self._live else None
        self._intake = Intake(
            source,
            controls,
            stopped,
            models=len(models),
            limit=settings.limit,
            watched=settings.show or around.page is not None,
            admission=self._admission,
        )
        self._frames_out = self._fitted = 0
        self._size_wh = (0, 0)
        self._latencies = {stage: Latencies() for stage in ("read", "weather", "draw", "write", "age")}
        self._started_s = self._ended_s = 0.0
        self._figures = FigureLine(len(models))

    def open_outputs(self, outputs: Outputs, stack: contextlib.ExitStack) -> None:
        """Open everything that frames go to; the video first, so that its full disk leaves the others whole."""
        overwrite = outputs.overwrite
        if outputs.video is not None:
            self._video = stack.enter_context(video_output(outputs.video, fps=self._fps, overwrite=overwrite))
        if self._settings.show:
            self._window = stack.enter_context(Window(f"drivetl: {self._source.info.name}"))
        if outputs.detections is not None:
            names = [lane.name for lane in self._lanes]
            lines = DetectionLines(outputs.detections, names, [lane.class_names for lane in self._lanes], overwrite)
            self._lines = stack.enter_context(lines)
        if outputs.mot is not None:
            self._mot = stack.enter_context(MotLines(outputs.mot, overwrite))
        if outputs.stills is not None:
            stills = Stills(outputs.stills, self._settings.stills, self._fps, overwrite)
            self._stills = stack.enter_context(stills)

    def carry_out(self) -> None:
        """Take every frame from the source to where it goes.

        Raises:
            KeyboardInterrupt: the run was stopped before its first frame, so there is nothing to keep.
            VideoError: no frame came in time to be handed on.
        """
        frames = self._source.frames()
        # The first frame decides about sizes; it is taken here, so that its errors come before any thread starts.
        first = None if self._stopped() else next(frames, None)
        if first is None:
            self._intake.interrupted = self._stopped()
            self._check_handed_on()
            return
        self._begin(first)
        total = self._source.info.frames
        if self._settings.limit is not None:
            total = min(self._settings.limit, total or self._settings.limit)
        self._around.progress("frames", 0, total)
        capacity = 1 if self._live else max(1, min(_MOST_QUEUED, _QUEUE_BYTES // first.nbytes))
        if self._live:
            self._source.dropped += 1  # the first frame grew old during the warm-up
        else:
            frames = itertools.chain([first], frames)
        with Line(self._intake.jobs(frames), self._stages(), capacity=capacity) as line:
            try:
                for job in line.results():
                    self._idle() if job is None else self._finish(job)
                    self._around.progress("frames", self._frames_out, total)
            finally:
                self._controls.ended = True  # a reader that waits for a camera must not be waited for
        self._check_handed_on()

    def _stages(self) -> list[list[Callable[[Job], None]]]:
        """Return the steps that each thread takes."""
        admission = self._admission
        if admission is None:
            return [[], [self._prepare], [self._infer], [self._understand, self._draw]]
        # A live frame is taken when the network is free for it, and not before: a queue in front would let it age.
        return [
            [self._prepare, self._infer, lambda _: admission.end(0)],
            [lambda _: admission.begin(1), self._understand, self._draw, lambda _: admission.end(1)],
        ]

    def _check_handed_on(self) -> None:
        if self._intake.interrupted and not self._frames_out:
            raise KeyboardInterrupt
        if not self._frames_out:
            arrived = self._intake.taken + self._source.dropped
            raise VideoError(
                f"{quoted(self._source.info.name)} delivered {arrived} frames, and none that came in time to be handed "
                "on; raise --max-age-ms, or check the connection"
            )

    def _begin(self, first: NDArray[np.uint8]) -> None:
        """Fix the sizes and run the first frame once untimed: it pays for memory and, on a GPU, compiled kernels."""
        self._size_wh = first.shape[1], first.shape[0]
        facts = {
            "source": self._source.info.name,
            "live": self._live,
            "models": [lane.badge for lane in self._lanes],
            "classes": [list(lane.class_names) for lane in self._lanes],
        }
        for lane in self._lanes:
            lane.warm_up(first)
        if self._around.page is not None:
            self._around.page.begin(self._controls, facts)
        self._started_s = self._ended_s = time.perf_counter()

    def _prepare(self, job: Job) -> None:
        if self._weather.active:
            watch = Stopwatch()
            job.image_bgr = self._weather(job.image_bgr, job.shown_s)
            job.taken_ms["weather"] = watch.lap_ms()
        for lane, view in zip(self._lanes, job.views, strict=True):
            lane.preprocess(job.image_bgr, job.index, view)
        if job.image_bgr.shape[1::-1] != self._size_wh:
            job.image_bgr, job.placed = fit_into(job.image_bgr, self._size_wh)
            self._fitted += 1

    def _infer(self, job: Job) -> None:
        for lane, view in zip(self._lanes, job.views, strict=True):
            lane.infer(view)

    def _understand(self, job: Job) -> None:
        for lane, view in zip(self._lanes, job.views, strict=True):
            lane.understand(view, self._controls.confidence, job.placed, job.shown_s)

    def _draw(self, job: Job) -> None:
        if self._video is None and self._window is None and self._stills is None and self._around.page is None:
            return
        watch = Stopwatch()
        shown = [self._latencies["age"] if self._live else lane.latencies["end_to_end"] for lane in self._lanes]
        self._figures.refresh(shown, self._frames_out, self._source.dropped)
        now_s = job.time_s(self._fps)
        panes = [job.image_bgr, *(job.image_bgr.copy() for _ in self._lanes[1:])]
        for lane, view, pane, figures in zip(self._lanes, job.views, panes, self._figures.shown, strict=True):
            lane.draw(pane, view, figures, now_s)
        job.image_bgr = panes[0] if len(panes) == 1 else np.hstack(panes)
        job.taken_ms["draw"] = watch.lap_ms()

    def _finish(self, job: Job) -> None:
        """Take the last step with a frame, in the thread that began the run."""
        if self._admission is not None:
            self._admission.begin(_LIVE_STAGES - 1)
        self._deliver(job)
        if self._admission is not None:
            self._admission.end(_LIVE_STAGES - 1)

    def _deliver(self, job: Job) -> None:
        """Hand a finished frame to everybody who wants it."""
        self._frames_out += 1
        time_s = job.time_s(self._fps)
        self._show(job)
        if self._video is not None:
            watch = Stopwatch()
            self._video.write(job.image_bgr, job.shown_s)
            job.taken_ms["write"] = watch.lap_ms()
            self._controls.ended |= self._video.failed
        if self._lines is not None:
            self._lines.write(job, time_s)
        if self._mot is not None:
            self._mot.write(job)
        if self._stills is not None:
            self._stills.consider(job)
        for lane, view in zip(self._lanes, job.views, strict=True):
            lane.count(view)
        self._ended_s = time.perf_counter()
        for stage, taken_ms in job.taken_ms.items():
            self._latencies[stage].note(taken_ms)

    def _show(self, job: Job) -> None:
        """Hand a frame to those who watch; that comes before writing, which they need not wait for."""
        if self._window is not None:
            self._window.show(job.image_bgr)
            self._controls.ended |= self._window.closed
        if self._around.page is not None:
            self._around.page.publish(job.image_bgr, self._state(job))
        if self._live:
            job.taken_ms["age"] = (time.perf_counter() - job.captured_s) * 1000

    def _idle(self) -> None:
        """Keep the window alive while no frame comes."""
        if self._window is not None:
            self._window.keep_alive()
            self._controls.ended |= self._window.closed

    def _state(self, job: Job) -> dict[str, Any]:
        """Return the figures that go with a frame, for the page."""
        latency = self._latencies["age"] if self._live else self._lanes[0].latencies["end_to_end"]
        age_ms = (time.perf_counter() - job.captured_s) * 1000
        return {
            "frame": job.index,
            "latency_ms": age_ms if self._live else job.views[0].taken_ms["end_to_end"],
            "p99_ms": latency.percentile(0.99),
            "dropped": self._source.dropped,
            "views": [view.tracked for view in job.views],
        }

    def result(self) -> VideoResult:
        """Return what was done and measured, or say which picture ended it (an `ImageError`)."""
        if self._intake.broken is not None:
            kept = any((self._video, self._lines, self._mot, self._stills))
            what = f". What came of the {self._frames_out} frames before it is kept" if kept else ""
            raise ImageError(f"{self._intake.broken}{what}") from self._intake.broken
        info = self._source.info
        first, *others = [lane.statistics() for lane in self._lanes]
        latency_ms = {**percentiles(self._latencies), **first["latency_ms"]}
        compared = None
        if others:
            compared = {"model": self._lanes[1].name, **others[0]}
        counted = ("reconnects", "longest_silence_s") if self._live else ()
        return VideoResult(
            source=info.name,
            frames_in=self._intake.taken + self._source.dropped,
            frames_out=self._frames_out,
            dropped=self._source.dropped,
            fps=self._frames_out / max(1e-9, self._ended_s - self._started_s),
            source_fps=info.fps,
            latency_ms=latency_ms,
            per_class=first["per_class"],
            codec=None if self._video is None else self._video.codec,
            size_wh=self._size_wh,
            interrupted=self._intake.interrupted,
            notes=self._notes(),
            tracks=first["tracks"],
            compared=compared,
            live={name: getattr(self._source, name) for name in counted} or None,
            stills=() if self._stills is None else self._stills.written,
            unreadable=info.unreadable,
        )

    def _notes(self) -> tuple[str, ...]:
        info = self._source.info
        notes = list(info.notes)
        if self._intake.ran_dry and self._live:
            notes.append(f"{info.name} stopped delivering after {self._intake.taken + self._source.dropped} frames")
        if self._fitted:
            width, height = self._size_wh
            notes.append(f"{self._fitted} frames of another size were fitted into {width}x{height}")
        if self._settings.track is None and not tracking_available():
            notes.append("objects have no numbers; for tracking: pip install 'drivetl[video]'")
        if self._video is not None:
            notes += self._video.notes
        if self._stills is not None:
            notes += self._stills.notes
        return tuple(notes)
