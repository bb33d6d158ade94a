"""Frames of a source become jobs: until it ends, the limit is reached or the user has had enough."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ImageError
from drivetl.video.admission import Admission
from drivetl.video.lane import Job, View
from drivetl.video.meter import Stopwatch
from drivetl.video.pace import Pace
from drivetl.video.settings import Controls
from drivetl.video.source_info import Source

__all__ = ["Intake"]


class Intake:
    """Takes frames from a source when they are due.

    Attributes:
        taken: frames that became jobs.
        ran_dry: whether the source ended by itself.
        interrupted: whether the user stopped it before that.
        broken: the picture that could not be read, before which the jobs end; None without one.
    """

    def __init__(
        self,
        source: Source,
        controls: Controls,
        stopped: Callable[[], bool],
        *,
        models: int,
        limit: int | None = None,
        watched: bool = False,
        admission: Admission | None = None,
    ) -> None:
        """Prepare; no frame is taken yet.

        Args:
            source: of the frames; it is closed with the last one.
            controls: tell whether the run is paused.
            stopped: asked before every frame but the first.
            models: how many look at each frame.
            limit: of frames; None: all.
            watched: whether a file plays at its own rate, because somebody looks on.
            admission: says when a frame may set out, and is told that it did; None: at once.
        """
        self._source, self._stopped, self._models = source, stopped, models
        self._live, self._fps = source.info.live, source.info.fps
        self._controls, self._limit, self._admission = controls, limit, admission
        self._paced = watched and not self._live
        self.taken = 0
        self.ran_dry = self.interrupted = False
        self.broken: ImageError | None = None

    def jobs(self, frames: Iterator[NDArray[np.uint8]]) -> Iterator[Job]:
        """Yield a job for each frame.

        Raises:
            VideoError: the source is damaged or ends before its time.
        """
        try:
            yield from self._jobs(frames)
        except ImageError as error:  # what came before it shall be kept
            self.broken = error
        finally:
            # Here, and not after what was written is complete: what a camera gives meanwhile is no frame of this run.
            self._source.close()

    def _jobs(self, frames: Iterator[NDArray[np.uint8]]) -> Iterator[Job]:
        pace = Pace(self._fps, self._controls, self._stopped)
        first_s: float | None = None
        for index in itertools.count():
            pace.while_paused()
            if index == self._limit:
                return
            if self._admission is not None:
                self._admission.wait(self._stopped)
            if index and self._stopped():
                self.interrupted = True
                return
            watch = Stopwatch()
            image_bgr = next(frames, None)
            if image_bgr is None:
                self.ran_dry, self.interrupted = not self._stopped(), self._stopped()
                return
            taken_ms = {} if self._live or not index else {"read": watch.lap_ms()}
            if self._admission is not None:
                self._admission.begin(0)
            self.taken += 1
            captured_s, shown_s = self._source.captured_s, self._source.shown_s
            if self._live:
                first_s = captured_s if first_s is None else first_s
                shown_s = captured_s - first_s
            size_wh = image_bgr.shape[1], image_bgr.shape[0]
            views = [View() for _ in range(self._models)]
            job = Job(index, image_bgr, captured_s, views, size_wh, taken_ms, shown_s=shown_s)
            if self._paced:
                pace.until_due(job.time_s(self._fps))
            yield job
