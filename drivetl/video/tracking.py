"""Objects keep their number from frame to frame: ByteTrack, as the package ``trackers`` implements it.

Y. Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box" (ECCV 2022): boxes below the
threshold do not begin a track but may continue one, which bridges the frames in which a detector is unsure.
"""

from __future__ import annotations

import importlib.util
import math
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import MissingExtraError
from drivetl.runtime import Detections
from drivetl.runtime.overlap import box_iou
from drivetl.taxonomy import look_of
from drivetl.video.smoothing import Smoother

__all__ = ["Tracked", "Tracker", "tracking_available", "untracked"]

# Boxes with at least this share of the threshold may continue a track: ByteTrack's 0.1 at the usual 0.25.
_LOW_SHARE = 0.4
# A box lies on the same object as a better one: of the same class and mostly inside or around it, or nearly equal and
# of a class that looks alike.
# Below a quarter of its size it is taken for another object, as a far car beside a near one.
_PART_SHARE = 0.8
_PART_LEAST = 0.25
_SAME_IOU = 0.7
# As the paper has it, a new track needs more than the threshold; more than this is never asked for.
_SURER, _SUREST = 0.1, 0.95
_LEAST_IOU = 0.2
_LOST_S = 1.0
_BRIDGED_S = 0.5
# A box overlaps at least so much with where its object was a frame before; see `_Names`.
_STAYED_IOU = 0.5
# Frames that an object must be seen in a row before it gets a number.
_CONFIRMED = 2
# A track's class is what most of its confidence went to; older frames count less, so that a wrong start is forgotten.
_MEMORY = 0.95
_FORGET_FRAMES = 600


@dataclass(frozen=True, slots=True)
class Tracked:
    """Detections of one frame with their tracks, most confident first.

    Attributes:
        detections: boxes as the detector gave them; the class is that of the track where there is one.
        track_id: int64 ``(n,)``: the object's number from 0; -1 where it has none (yet).
        smooth_xyxy_px: float32 ``(n, 4)``: the boxes to draw, without the jitter of the detector.
    """

    detections: Detections
    track_id: NDArray[np.int64]
    smooth_xyxy_px: NDArray[np.float32]


@contextmanager
def _without_ipv6_probe() -> Iterator[None]:
    """Keep urllib3, which both packages import, from opening a socket to find out whether there is IPv6."""
    known = socket.has_ipv6
    socket.has_ipv6 = False
    try:
        yield
    finally:
        socket.has_ipv6 = known


def tracking_available() -> bool:
    """Say whether the package ``trackers`` is installed."""
    return importlib.util.find_spec("trackers") is not None


def untracked(detections: Detections) -> Tracked:
    """Return detections without tracks."""
    return Tracked(detections, np.full(len(detections), -1, np.int64), detections.xyxy_px)


class Tracker:
    """Gives ids to the detections of one video; call it with the frames in order."""

    def __init__(self, fps: float, class_names: Sequence[str]) -> None:
        """Begin a video.

        Args:
            fps: frames a second; a lost object is looked for during one second.
            class_names: of the detections, by class id.

        Raises:
            MissingExtraError: the package ``trackers`` is not installed.
        """
        if not tracking_available():
            raise MissingExtraError(
                "tracking needs the package 'trackers'; install it with: pip install 'drivetl[video]', or pass "
                "--no-track"
            )
        with _without_ipv6_probe():
            import supervision
            import trackers

        self._boxes = supervision.Detections
        self._tracker: Any = trackers.ByteTrackTracker(
            # Counted in frames at 30 a second and scaled by the package.
            lost_track_buffer=round(30 * _LOST_S),
            frame_rate=fps,
            minimum_consecutive_frames=_CONFIRMED,
            minimum_iou_threshold=_LEAST_IOU,
        )
        looks = [look_of(name) for name in class_names]
        self._looks = np.array([looks.index(look) for look in looks], np.int64)
        self._smoother = Smoother()
        self._names = _Names()
        self._votes: dict[int, dict[int, float]] = {}
        self._seen: dict[int, int] = {}
        self._sure_s: dict[int, float] = {}
        self._fps = fps
        # At least one frame is bridged. Times come from floating point and rounded time stamps.
        self._bridged_s = max(_BRIDGED_S, 1 / fps) + 0.002
        self._frame = 0
        self.objects: Counter[int] = Counter()

    @staticmethod
    def low(confidence: float) -> float:
        """Return the least confidence that detections for `update` should have, given the threshold in force."""
        return _LOW_SHARE * confidence

    def update(self, detections: Detections, confidence: float, time_s: float | None = None) -> Tracked:
        """Return the detections that are to be shown: those above the threshold and those that continue a track.

        Where one vehicle was read as two classes, or one person, the surer box alone is shown.

        Args:
            detections: of the next frame, down to `low`.
            confidence: the threshold in force.
            time_s: when the frame was taken, for frames that are not evenly spaced; in seconds after the first.
        """
        now_s = self._frame / self._fps if time_s is None else time_s
        self._frame += 1
        self._tracker.high_conf_det_threshold = confidence
        self._tracker.track_activation_threshold = min(confidence + _SURER, _SUREST)
        part, whole = _second_boxes(detections, self._looks)
        detections, part = _only(detections, ~whole), part[~whole]
        count = len(detections)
        own = np.flatnonzero(~part)
        found = self._boxes(
            xyxy=detections.xyxy_px[own].astype(np.float64).reshape(-1, 4),
            confidence=detections.confidence[own],
            class_id=detections.class_id[own],
            data={"index": own},
        )
        result = self._tracker.update(found, timestamp=time_s)
        track_id = np.full(count, -1, np.int64)
        if len(result):
            track_id[result.data["index"]] = result.tracker_id
        track_id = self._names(track_id, detections.xyxy_px)
        keep = self._shown(detections.confidence > confidence, track_id, now_s)
        track_id = track_id[keep]
        class_id = detections.class_id[keep].copy()
        confidences = detections.confidence[keep]
        for place, number in enumerate(track_id.tolist()):
            if number >= 0:
                class_id[place] = self._vote(number, int(class_id[place]), float(confidences[place]))
        shown = Detections(detections.xyxy_px[keep], confidences, class_id)
        self._forget()
        return Tracked(shown, track_id, self._smoother(track_id, shown.xyxy_px, self._frame))

    def _shown(self, sure: NDArray[np.bool_], track_id: NDArray[np.int64], now_s: float) -> NDArray[np.bool_]:
        """Return which boxes are shown: those above the threshold, and for half a second others of the same track.

        So a box does not flicker with the detector's confidence, and yet nothing stays for long below the threshold.
        """
        shown = sure.copy()
        for place, number in enumerate(track_id.tolist()):
            if number < 0:
                continue
            if sure[place]:
                self._sure_s[number] = now_s
            shown[place] |= now_s - self._sure_s.get(number, -math.inf) <= self._bridged_s
        return shown

    def _vote(self, number: int, class_id: int, confidence: float) -> int:
        """Return the class of a track after one more vote; count each object under its class of the moment."""
        votes = self._votes.setdefault(number, {})
        before = max(votes, key=votes.__getitem__, default=-1)
        for kind in votes:
            votes[kind] *= _MEMORY
        votes[class_id] = votes.get(class_id, 0.0) + confidence
        self._seen[number] = self._frame
        now = max(votes, key=votes.__getitem__)
        if now != before:
            self.objects[now] += 1
            self.objects[before] -= before >= 0
        return now

    def _forget(self) -> None:
        """Drop what is known of tracks that are long over, so that a run of days needs no more memory."""
        if self._frame % _FORGET_FRAMES:
            return
        over = [n for n, seen in self._seen.items() if seen < self._frame - _FORGET_FRAMES]
        self._names.forget(self._frame - _FORGET_FRAMES)
        for number in over:
            del self._seen[number], self._votes[number], self._sure_s[number]
        self._smoother.forget(self._frame - _FORGET_FRAMES)


class _Names:
    """Gives a car back its number when another track takes its place.

    Where a near car has covered a far one, one box fits both tracks, and ByteTrack weighs a track that it has not seen
    for a while like one that stood there a frame ago. Then the two exchange their numbers. So it is with a track that
    begins: two boxes on one car make a second track, and when one box is left it may go to either.
    """

    def __init__(self) -> None:
        self._number: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._frame = 0
        self._before: dict[int, NDArray[np.float32]] = {}

    def __call__(self, track_id: NDArray[np.int64], xyxy_px: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the numbers of this frame's boxes, -1 where they have none, from the tracker's own."""
        self._frame += 1
        now = {number: place for place, number in enumerate(track_id.tolist()) if number >= 0}
        for number in now:
            self._number.setdefault(number, number)
            self._last[number] = self._frame
        gone = [number for number in self._before if number not in now]
        come = [number for number in now if number not in self._before]
        if gone and come:
            stood = np.stack([self._before[number] for number in gone])
            iou = box_iou(stood, xyxy_px[[now[number] for number in come]])
            for row, column in zip(*np.nonzero(iou >= _STAYED_IOU), strict=True):
                one, other = gone[row], come[column]
                self._number[one], self._number[other] = self._number[other], self._number[one]
        self._before = {number: xyxy_px[place] for number, place in now.items()}
        return np.array([self._number.get(number, -1) for number in track_id.tolist()], np.int64)

    def forget(self, before: int) -> None:
        """Drop tracks that were last seen before a frame, those that were never shown included."""
        for own in [own for own, frame in self._last.items() if frame < before]:
            del self._number[own], self._last[own]


def _only(detections: Detections, keep: NDArray[np.bool_]) -> Detections:
    return Detections(detections.xyxy_px[keep], detections.confidence[keep], detections.class_id[keep])


def _second_boxes(detections: Detections, looks: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which boxes lie on an object that a more confident box has already: they must not carry off its number.

    Non-maximum suppression leaves them where one box holds a part of the object (the first), which may also be another
    object behind it, or where another class of the same look was read (the second).
    """
    count = len(detections)
    boxes = detections.xyxy_px.astype(np.float64).reshape(count, 4)
    left_top, right_bottom = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    common = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    smaller, larger = np.minimum.outer(areas, areas), np.maximum.outer(areas, areas)
    same_class = detections.class_id[:, None] == detections.class_id
    part = same_class & (common >= _PART_SHARE * smaller) & (smaller >= _PART_LEAST * larger)
    look = looks[detections.class_id]
    whole = (look[:, None] == look) & ~same_class & (common >= _SAME_IOU * (smaller + larger - common))
    # Detections come most confident first; a box that is itself a second one still has its own second ones.
    return np.tril(part, -1).any(axis=1), np.tril(whole, -1).any(axis=1)
