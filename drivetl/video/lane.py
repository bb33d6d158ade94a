"""One model's way through a frame: preprocess, infer, decode, track, draw. Two models drive in two lanes."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError, encodable, quoted
from drivetl.runtime import Detections, Geometry
from drivetl.runtime.preprocess import Preprocessor
from drivetl.video.draw import annotate
from drivetl.video.meter import Latencies, Stopwatch
from drivetl.video.settings import Model, VideoSettings
from drivetl.video.tails import Tails
from drivetl.video.tracking import Tracked, Tracker, tracking_available, untracked

__all__ = ["Job", "Lane", "View"]


@dataclass(slots=True)
class View:
    """What one model sees in one frame; each step adds its part.

    Attributes:
        tensor_nchw: the input, in a buffer that is used again some frames later.
        geometry: how the frame lies in it.
        raw: the network's output.
        tracked: what is shown, in pixels of the output.
        taken_ms: durations by stage.
    """

    tensor_nchw: NDArray[np.float32] | None = None
    geometry: Geometry | None = None
    raw: NDArray[np.float32] | None = None
    tracked: Tracked | None = None
    taken_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Job:
    """A frame on its way.

    Attributes:
        index: number among the frames that are handed on, from 0.
        image_bgr: the frame; after drawing, the picture to show.
        captured_s: when it was decoded, on the clock of ``time.perf_counter``.
        views: one for each model.
        size_wh: of the source's frame, in pixels.
        taken_ms: durations of the stages that all models share.
        placed: scale, left and top in pixels that put a frame of another size into the output.
        shown_s: see `drivetl.video.source_info.Source`; of cameras and streams, when it was decoded, in seconds after
            the first that was handed on.
    """

    index: int
    image_bgr: NDArray[np.uint8]
    captured_s: float
    views: list[View]
    size_wh: tuple[int, int] = (0, 0)
    taken_ms: dict[str, float] = field(default_factory=dict)
    placed: tuple[float, int, int] = (1.0, 0, 0)
    shown_s: float | None = None

    def time_s(self, fps: float) -> float:
        """Return when the frame is shown, in seconds after the first one that was handed on."""
        return self.index / fps if self.shown_s is None else self.shown_s


class Lane:
    """One model with its buffers, tracks and counts."""

    def __init__(self, model: Model, settings: VideoSettings, fps: float, buffers: int) -> None:
        """Prepare a model.

        Args:
            model: the open bundle and its name.
            settings: of the run.
            fps: frames a second of the source.
            buffers: how many frames may be between `preprocess` and `infer`, those in hand included.

        Raises:
            ConfigError: a class is not one of the model's.
            MissingExtraError: tracking was asked for and its package is missing.
        """
        self.detector, self.name = model.detector, encodable(model.name)
        contract = self.detector.contract
        self.class_names = contract.class_names
        self.badge = f"{self.name}  {contract.precision}  {self.detector.provider}".strip()
        self.tracker: Tracker | None = None
        if settings.track or (settings.track is None and tracking_available()):
            self.tracker = Tracker(fps, self.class_names)
        self.tails = Tails(fps)
        self.per_class: Counter[int] = Counter()
        self.latencies = {
            stage: Latencies() for stage in ("preprocess", "inference", "postprocess", "end_to_end", "track")
        }
        self._wanted = _class_ids(settings.classes, self.class_names)
        self._preprocessors = [Preprocessor(contract.letterbox, contract.input_dtype) for _ in range(buffers)]

    def warm_up(self, image_bgr: NDArray[np.uint8]) -> None:
        """Run a frame once untimed: it pays for memory, for the letters and, on a GPU, for compiled kernels."""
        found = self.detector(image_bgr)
        annotate(image_bgr.copy(), found, self.class_names, figures=("0",))

    def preprocess(self, image_bgr: NDArray[np.uint8], index: int, view: View) -> None:
        """Fill the next input tensor."""
        watch = Stopwatch()
        preprocessor = self._preprocessors[index % len(self._preprocessors)]
        view.tensor_nchw, view.geometry = preprocessor(image_bgr)
        view.taken_ms["preprocess"] = watch.lap_ms()

    def infer(self, view: View) -> None:
        """Run the network."""
        assert view.tensor_nchw is not None
        watch = Stopwatch()
        view.raw = self.detector.infer(view.tensor_nchw)
        view.taken_ms["inference"] = watch.lap_ms()
        view.tensor_nchw = None

    def understand(self, view: View, confidence: float, placed: tuple[float, int, int], time_s: float | None) -> None:
        """Decode the output and follow the objects."""
        assert view.raw is not None and view.geometry is not None
        watch = Stopwatch()
        least = confidence if self.tracker is None else Tracker.low(confidence)
        detections = self.detector.postprocess(view.raw, view.geometry, confidence=least)
        if self._wanted is not None:
            detections = _only(detections, np.isin(detections.class_id, self._wanted))
        taken = view.taken_ms
        taken["postprocess"] = watch.lap_ms()
        taken["end_to_end"] = taken["preprocess"] + taken["inference"] + taken["postprocess"]
        detections = _placed(detections, placed)
        view.raw = None
        if self.tracker is None:
            view.tracked = untracked(detections)
            return
        view.tracked = self.tracker.update(detections, confidence, time_s)
        taken["track"] = watch.lap_ms()

    def draw(self, image_bgr: NDArray[np.uint8], view: View, figures: Sequence[str], now_s: float) -> None:
        """Draw boxes, labels, tails and figures onto a frame, in place."""
        assert view.tracked is not None
        tracked = view.tracked
        boxes = Detections(tracked.smooth_xyxy_px, tracked.detections.confidence, tracked.detections.class_id)
        self.tails.add(tracked, now_s)
        self.tails.draw(image_bgr, self.class_names)
        ids = tracked.track_id if self.tracker is not None else None
        annotate(image_bgr, boxes, self.class_names, track_id=ids, figures=figures, badge=self.badge)

    def count(self, view: View) -> None:
        """Add a finished frame to the statistics."""
        assert view.tracked is not None
        self.per_class.update(view.tracked.detections.class_id.tolist())
        for stage, taken_ms in view.taken_ms.items():
            self.latencies[stage].note(taken_ms)

    def statistics(self) -> dict[str, Any]:
        """Return ``per_class``, ``tracks`` and ``latency_ms`` as `VideoResult` describes them."""
        tracks = None
        if self.tracker is not None:
            tracks = {self.class_names[index]: count for index, count in self.tracker.objects.most_common() if count}
        return {
            "per_class": {self.class_names[index]: count for index, count in self.per_class.most_common()},
            "tracks": tracks,
            "latency_ms": percentiles(self.latencies),
        }


def percentiles(latencies: dict[str, Latencies]) -> dict[str, dict[str, float]]:
    """Return p50 and p99 of every stage that was measured."""
    return {
        stage: {"p50": taken.percentile(0.5), "p99": taken.percentile(0.99)}
        for stage, taken in latencies.items()
        if len(taken)
    }


def _only(detections: Detections, keep: NDArray[np.bool_]) -> Detections:
    return Detections(detections.xyxy_px[keep], detections.confidence[keep], detections.class_id[keep])


def _placed(detections: Detections, placed: tuple[float, int, int]) -> Detections:
    scale, left, top = placed
    if placed == (1.0, 0, 0):
        return detections
    moved = (detections.xyxy_px * scale + (left, top, left, top)).astype(np.float32)
    return Detections(moved, detections.confidence, detections.class_id)


def _class_ids(wanted: Sequence[str], names: Sequence[str]) -> NDArray[np.int64] | None:
    if not wanted:
        return None
    unknown = [name for name in wanted if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, 1)
        hint = f"; did you mean {quoted(near[0])}? It knows" if near else "; it knows"
        raise ConfigError(
            f"--classes names {quoted(unknown[0])}, which this model does not know{hint}: {', '.join(names)}"
        )
    return np.array([names.index(name) for name in wanted], np.int64)
