"""One model's way through a frame: preprocess, infer, decode, track, draw. Two models drive in two lanes."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
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

__all__ = ["Job", "Lane", "View", "lanes_of", "percentiles"]


@dataclass(slots=True)
class View:
    """What one model sees in one frame; each step adds its part.

    Attributes:
        tensor_nchw: the input, in a buffer that is used again some frames later.
        geometry: how the frame lies in it.
        raw: the network's output.
        tracked: what is shown, in pixels of the output.
        bridged: bool ``(n,)``: which of it is at most as confident as the threshold, and shown because its object was
            more so shortly before.
        taken_ms: durations by stage.
    """

    tensor_nchw: NDArray[np.float32] | None = None
    geometry: Geometry | None = None
    raw: NDArray[np.float32] | None = None
    tracked: Tracked | None = None
    bridged: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
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
            settings: of the run; classes that the model does not know are none of its business.
            fps: frames a second of the source.
            buffers: how many frames may be between `preprocess` and `infer`, those in hand included.

        Raises:
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
        # At once, because it stands on the picture, which may be the only one.
        self.latencies["end_to_end"].note(taken["end_to_end"])
        detections = _placed(detections, placed)
        view.raw = None
        if self.tracker is None:
            view.tracked = untracked(detections)
            view.bridged = np.zeros(len(detections), np.bool_)
            return
        view.tracked = self.tracker.update(detections, confidence, time_s)
        view.bridged = ~(view.tracked.detections.confidence > confidence)
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
            if stage != "end_to_end":
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


def lanes_of(
    models: Sequence[Model], settings: VideoSettings, fps: float, buffers: int, say: Callable[[str], None]
) -> list[Lane]:
    """Return a lane for each model; of two, either may know a wanted class.

    Args:
        models: one or two.
        settings: of the run.
        fps: frames a second of the source.
        buffers: see `Lane`.
        say: told which model does not know a class that the other knows.

    Raises:
        ConfigError: no model knows a class.
        MissingExtraError: tracking was asked for and its package is missing.
    """
    _check_classes(settings.classes, models, say)
    return [Lane(model, settings, fps, buffers) for model in models]


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
    """Return the numbers of the wanted classes that a model knows; None if all are wanted."""
    return np.array([names.index(name) for name in wanted if name in names], np.int64) if wanted else None


def _check_classes(wanted: Sequence[str], models: Sequence[Model], say: Callable[[str], None]) -> None:
    known = {name: None for model in models for name in model.detector.contract.class_names}
    called = [quoted(model.name) if model.name else "without a name" for model in models]
    unknown = next((name for name in wanted if name not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, known, 1)
        one = len(models) == 1
        who = f"the model {called[0]} does not know" if one else f"neither {called[0]} nor {called[1]} knows"
        hint = f"; did you mean {quoted(near[0])}? Known are" if near else "; known are"
        raise ConfigError(f"--classes names {quoted(unknown)}, which {who}{hint}: {', '.join(known)}")
    for model, name in zip(models, called, strict=True):
        strange = [quoted(kind) for kind in wanted if kind not in model.detector.contract.class_names]
        if strange:
            say(f"note: the model {name} does not know {', '.join(strange)} of --classes")
