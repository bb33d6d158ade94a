"""What a bundle and its weights give for the same pictures, counted picture by picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.deploy.matching import Agreement, Candidates, Raw, compare_detections
from drivetl.deploy.tolerances import Tolerances
from drivetl.errors import BundleError
from drivetl.runtime import Detections, Detector, Geometry, Letterbox, decode, to_tensor
from drivetl.runtime.decode import BOX_ROWS
from drivetl.runtime.overlap import match, visible

__all__ = ["Tally", "Worst"]

# Heights and widths that have caught letterboxes before: one pixel, thin strips, odd sides, enlargement, exact fit.
_ODD_SIZES_HW = ((1, 1), (40, 1000), (1000, 40), (375, 1242), (719, 1281), (333, 500), (64, 48), (640, 640))
# No cap on detections here: a cap is one more threshold that a rounding could push a detection across.
_NO_CAP = 30_000

_Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Worst:
    """The picture on which bundle and weights differ most, relative to the tolerances."""

    picture: str
    max_abs_diff_scores: float
    max_abs_diff_px: float


class Tally:
    """Running maxima over the pictures; nothing of a picture is kept."""

    def __init__(
        self,
        detector: Detector,
        reference_raw: Callable[[_Array], _Array],
        reference_letterbox: Callable[[NDArray[np.uint8], tuple[int, int]], NDArray[np.uint8]],
        tolerances: Tolerances,
    ) -> None:
        self.tolerances = tolerances
        self.max_abs_diff_scores = self.max_abs_diff_px = 0.0
        self.agreement = Agreement()
        self.worst = Worst("", 0.0, 0.0)
        self.letterbox_mismatches: list[str] = []
        self._worst_share = -1.0
        self._detector = detector
        self._reference_raw = reference_raw
        self._reference_letterbox = reference_letterbox

    def figures(self) -> dict[str, Any]:
        """Return what was found so far, as fields of `drivetl.deploy.parity.ParityResult`."""
        return {
            "letterbox_mismatches": tuple(self.letterbox_mismatches),
            "max_abs_diff_scores": self.max_abs_diff_scores,
            "max_abs_diff_px": self.max_abs_diff_px,
            "agreement": self.agreement,
            "worst": self.worst,
            "tolerances": self.tolerances,
        }

    def letterbox_odd_sizes(self) -> None:
        """Compare the letterboxes on noise of sizes that real pictures rarely have."""
        rng = np.random.default_rng(0)
        for height, width in _ODD_SIZES_HW:
            noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            self._compare_letterbox(f"a {width}x{height} picture", noise)

    def add(self, name: str, image_bgr: NDArray[np.uint8]) -> None:
        """Compare everything on one picture."""
        self._compare_letterbox(name, image_bgr)
        tensor, geometry = self._detector.preprocess(image_bgr)
        # Where the graph preprocesses, the reference still gets the floats: that part is compared with the rest.
        floats = to_tensor(tensor[0]) if tensor.dtype == np.uint8 else tensor
        tested, reference = self._detector.infer(tensor), self._reference_raw(floats)
        if self._detector.contract.decoding in BOX_ROWS:
            self._add_decoded(name, reference, tested, geometry)
            return
        if tested.shape != reference.shape:
            raise BundleError(
                f"the bundle gives an output of shape {tested.shape} and the weights {reference.shape}; export it again"
            )
        difference = np.abs(tested - reference)
        judged = reference[0, 4:].max(axis=0) >= self.tolerances.px_from_score
        px, scores = float(difference[0, :4, judged].max(initial=0.0)), float(difference[:, 4:].max())
        self._note(name, px, scores)
        self._agree(
            self._decode(reference, geometry),
            self._decode(tested, geometry),
            lambda: (self._candidates(reference, geometry), self._candidates(tested, geometry)),
        )

    def _add_decoded(self, name: str, reference: _Array, tested: _Array, geometry: Geometry) -> None:
        """Compare what a graph with its own decoding gives, detection by detection: its rows have no fixed places."""
        decoding = self._detector.contract.decoding
        wanted = self._decode(reference, geometry, decoding if decoding == "xyxy_one_to_one" else "cxcywh_scores")
        found = self._decode(tested, geometry, decoding)
        pairs = match(wanted, found, self.tolerances.iou)
        first, second = [i for i, _ in pairs], [j for _, j in pairs]
        px = np.abs(wanted.xyxy_px[first] - found.xyxy_px[second]).max(initial=0.0) * geometry.scale
        self._note(name, float(px), float(np.abs(wanted.confidence[first] - found.confidence[second]).max(initial=0.0)))
        # The rows come suppressed; the weights' own candidates still tell whether a box of theirs is one.
        self._agree(wanted, found, lambda: (self._candidates(reference, geometry), None))

    def _note(self, name: str, px: float, scores: float) -> None:
        """Keep the largest differences, and the picture that is worst."""
        # np.maximum, unlike max(), hands on what is not a number.
        self.max_abs_diff_px = float(np.maximum(self.max_abs_diff_px, px))
        self.max_abs_diff_scores = float(np.maximum(self.max_abs_diff_scores, scores))
        limits = self.tolerances
        relative = np.maximum(px / (limits.px or 1.0), scores / (limits.scores or 1.0))
        share = float(np.nan_to_num(relative, nan=np.inf))
        if share > self._worst_share:
            self._worst_share, self.worst = share, Worst(name, scores, px)

    def _agree(self, reference: Detections, tested: Detections, candidates: Candidates | None = None) -> None:
        contract = self._detector.contract
        self.agreement += compare_detections(
            reference,
            tested,
            min_iou=self.tolerances.iou,
            confidence=self.tolerances.confidence,
            nms_iou=None if contract.decoding == "xyxy_one_to_one" else contract.thresholds.iou,
            near=self.tolerances.near,
            candidates=candidates,
        )

    def _candidates(self, raw: _Array, geometry: Geometry) -> Raw:
        """Return what stands before suppression, a little below the threshold too: rounding may lift a box over it."""
        lowest = max(self.tolerances.confidence - self.tolerances.near, 0.0)
        # No two boxes overlap more than wholly, so nothing is suppressed, and both have the same order.
        found, whole = (
            decode(raw, where, confidence=lowest, iou=1.0, max_detections=_NO_CAP)
            for where in (geometry, _unclipped(geometry))
        )
        return Raw(found, whole.xyxy_px)

    def _decode(self, raw: _Array, geometry: Geometry, decoding: str = "cxcywh_scores") -> Detections:
        confidence, iou = self.tolerances.confidence, self._detector.contract.thresholds.iou
        found = decode(raw, geometry, confidence=confidence, iou=iou, max_detections=_NO_CAP, decoding=decoding)
        return visible(found)

    def _compare_letterbox(self, name: str, image_bgr: NDArray[np.uint8]) -> None:
        """Hold both ways to the reference: the one that accuracy is measured with, and the one that the car runs.

        A mistake of the second would cancel out below, because bundle and weights are given the same tensor.
        """
        contract = self._detector.contract
        letterbox: Letterbox = contract.letterbox
        expected = self._reference_letterbox(image_bgr, letterbox.size_hw)
        measured, driven = letterbox(image_bgr)[0], self._detector.preprocess(image_bgr)[0]
        if not (np.array_equal(measured, expected) and np.array_equal(driven, contract.to_input(expected))):
            self.letterbox_mismatches.append(name)


def _unclipped(geometry: Geometry) -> Geometry:
    """Return a picture that is the input with so much around it that no box is cut at its edge."""
    height, width = geometry.input_size_hw
    size_hw = (3 * height, 3 * width)
    return Geometry(size_hw, size_hw, size_hw, (-height, -width), 1.0)
