"""How far a bundle may be from its weights, by precision, and why that far."""

from __future__ import annotations

from dataclasses import dataclass

from drivetl.runtime import Contract

__all__ = ["Tolerances"]

# A handful of pictures has too few detections for a share to mean anything.
_FEW_EXCUSED = 2


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a bundle may be from its weights.

    The defaults are those of fp32; `for_precision` gives the others and says why they differ.

    Attributes:
        scores: largest difference of any raw class score, in [0, 1]; None where single scores decide nothing. The
            same float32 operations in another order differ by about 1e-5; 1e-3 leaves room for fused kernels of other
            processors and is still below anything that changes a decision at two decimals.
        px: largest difference of any raw box value (centre, width or height) in pixels of the input, or None. Rounding
            gives about 1e-3 px; a tenth of a pixel is far below what a wrong stride or padding does.
        px_from_score: boxes are compared where the weights' best score reaches this.
        confidence: detections are compared from here on: low enough to cover every operating point of a car.
        iou: overlap that makes two detections the same box. A box 20 px wide that is off by 0.1 px on a side has 0.995.
        matched: share of detections that must have a partner. Room for one in a thousand, because suppression can
            pass one rounding on from a box to its neighbours.
        near: a detection without a partner is excused when it stands this close to the confidence threshold, or
            overlaps a matched, more confident one of the other side this close to the suppression limit, or is one of
            two overlapping boxes whose scores, this close, decide which suppresses the other: there, rounding decides.
            It equals ``scores``: what may differ by that much may cross a threshold that is that
            near.
        excused: share of the matched detections that may be excused in all. Few stand at a threshold by chance; where
            many do, the model is another one. fp32 excused none of 536 and fp16 one.
        map50_95: largest loss of mean average precision: half of the last digit that papers report.
    """

    scores: float | None = 1e-3
    px: float | None = 0.1
    px_from_score: float = 0.0
    confidence: float = 0.05
    iou: float = 0.99
    matched: float = 0.999
    near: float = 1e-3
    excused: float = 0.02
    map50_95: float = 1e-3

    def most_excused(self, matched: int) -> int:
        """Return how many detections rounding may excuse beside so many matched; of few, one on either side."""
        return max(_FEW_EXCUSED, int(self.excused * matched))

    @classmethod
    def for_precision(cls, contract: Contract) -> Tolerances:
        """Return the tolerances of a bundle's precision.

        fp16 keeps 11 binary digits, one part in 2,000, and a network is some hundred operations deep: on 60 pictures of
        fog scores differed by up to 0.016 and boxes that score 0.05 or more by up to 3.7 px of the input (sides of
        large objects, whose distribution has two peaks), while every one of 543 detections had its partner. Three and
        two times as much is allowed, and the detections have to match as well. The box of an anchor that sees nothing
        is a mean over a nearly flat distribution, whose rounding changes no detection; it is left out.

        int8 has 256 levels for a whole tensor, so a single score may move by tenths: raw values are reported and not
        judged. Judged are the detections that a car acts on (confidence 0.25, overlap 0.5), of which nine in ten must
        be there, and accuracy, which may lose what ``export --max-drop`` allowed. Many detections stand within the
        tenth that a score may move: a bundle that kept to its budget was excused 12 and 18 % of its matches on two sets
        of fog pictures, so a quarter may be.
        """
        if contract.precision == "fp16":
            return cls(0.05, 8.0, 0.05, iou=0.9, matched=0.99, near=0.05, map50_95=3e-3)
        if contract.precision == "int8":
            points = float((contract.quantisation or {}).get("max_drop_points", 1.0))
            return cls(None, None, confidence=0.25, iou=0.5, matched=0.9, near=0.1, excused=0.25, map50_95=points / 100)
        return cls()
