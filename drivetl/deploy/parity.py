"""Is the bundle the model that it was exported from? Compared on real pictures, in the order in which errors arise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drivetl import __version__
from drivetl.data import open_dataset
from drivetl.data.pictures import decode_picture
from drivetl.data.records import spread
from drivetl.deploy.matching import Agreement
from drivetl.deploy.place import Place, detector_at, limits_of
from drivetl.deploy.tally import Tally, Worst
from drivetl.deploy.tolerances import Tolerances
from drivetl.errors import WeightsError, quoted
from drivetl.files import sha256_file
from drivetl.progress import Progress, silent, tracked
from drivetl.runtime import Bundle, Detector, open_bundle
from drivetl.runtime.selftest import SelfTest, self_test

__all__ = ["ParityResult", "verify_bundle"]


@dataclass(frozen=True, slots=True)
class ParityResult:
    """What the comparison found.

    Attributes:
        provider: where the bundle ran; the weights ran in torch on the CPU.
        split: of the dataset.
        dataset_fingerprint: of the dataset.
        pictures: how many were compared.
        classes_equal: class names and their order are the same.
        letterbox_mismatches: pictures whose letterbox, or input tensor, differs from the reference in any byte.
        self_test: the golden frames on this device.
        max_abs_diff_scores: over all raw class scores of all pictures; of matched detections where the graph decodes.
        max_abs_diff_px: over all raw box values of all pictures, in input pixels; likewise.
        agreement: of the decoded detections.
        worst: the picture that differs most.
        map50_95: accuracy of ``weights`` and ``bundle``, filled in by `with_accuracy`.
        tolerances: what was allowed.
    """

    provider: str
    split: str
    dataset_fingerprint: str
    pictures: int
    classes_equal: bool
    letterbox_mismatches: tuple[str, ...]
    self_test: SelfTest
    max_abs_diff_scores: float
    max_abs_diff_px: float
    agreement: Agreement
    worst: Worst
    map50_95: tuple[float, float] | None = None
    tolerances: Tolerances = field(default_factory=Tolerances)

    def with_accuracy(self, weights_map50_95: float | None, bundle_map50_95: float | None) -> ParityResult:
        """Return the result completed by the accuracy of both models on the same pictures.

        None for either (a split without boxes) leaves accuracy uncompared, and the verdict stays no.
        """
        if weights_map50_95 is None or bundle_map50_95 is None:
            return replace(self, map50_95=None)
        return replace(self, map50_95=(weights_map50_95, bundle_map50_95))

    @property
    def matched(self) -> float:
        """Share of detections with a partner, excused ones aside; 0 where there was nothing to match."""
        compared = self.agreement.matched + self.agreement.missed
        return self.agreement.matched / compared if compared else 0.0

    @property
    def delta_map50_95(self) -> float | None:
        """Accuracy of the bundle minus that of the weights; None until `with_accuracy`."""
        return None if self.map50_95 is None else self.map50_95[1] - self.map50_95[0]

    @property
    def problems(self) -> tuple[str, ...]:
        """Return every check that failed, as a sentence with both figures."""
        limits = self.tolerances
        delta = self.delta_map50_95
        checks = (
            (self.classes_equal, "the class names differ from those of the weights"),
            (not self.letterbox_mismatches, f"the letterbox differs on {', '.join(self.letterbox_mismatches[:3])}"),
            (self.self_test.passed, "the golden frames do not give the detections recorded at export"),
            # Written so that a difference that is not a number fails.
            (
                limits.scores is None or self.max_abs_diff_scores <= limits.scores,
                f"raw scores differ by {self.max_abs_diff_scores:.2e}, allowed {limits.scores}",
            ),
            (
                limits.px is None or self.max_abs_diff_px <= limits.px,
                f"raw boxes differ by {self.max_abs_diff_px:.3g} px, allowed {limits.px} px",
            ),
            (bool(self.agreement.matched + self.agreement.missed), "no detection on any picture, nothing to match"),
            (
                self.matched >= limits.matched,
                f"{self.matched:.2%} of the detections match, required {limits.matched:.1%}",
            ),
            (
                self.agreement.excused <= limits.most_excused(self.agreement.matched),
                f"{self.agreement.excused} detections without a partner stand at a threshold, where rounding explains "
                f"{limits.most_excused(self.agreement.matched)} beside {self.agreement.matched} that match",
            ),
            (delta is not None, "accuracy was not compared (no boxes in the split?)"),
            (
                delta is None or self._accuracy_kept(delta),
                f"mAP50-95 differs by {delta or 0.0:+.4f}, allowed {limits.map50_95:g}",
            ),
        )
        return tuple(sentence for holds, sentence in checks if not holds)

    def _accuracy_kept(self, delta: float) -> bool:
        # The same model can neither lose nor gain; of a coarser one, a gain on some pictures is chance and no fault.
        limits = self.tolerances
        return delta >= -limits.map50_95 and (limits.scores is None or delta <= limits.map50_95)

    @property
    def passed(self) -> bool:
        """Whether every check held, accuracy included."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document; figures that are not numbers become null."""
        weights_map, bundle_map = self.map50_95 or (None, None)
        return {
            "passed": self.passed,
            "problems": list(self.problems),
            "drivetl": __version__,
            "provider": self.provider,
            "split": self.split,
            "dataset_fingerprint": self.dataset_fingerprint,
            "pictures": self.pictures,
            "classes_equal": self.classes_equal,
            "letterbox_equal": not self.letterbox_mismatches,
            "self_test": self.self_test.document(),
            "max_abs_diff_scores": _finite(self.max_abs_diff_scores),
            "max_abs_diff_px": _finite(self.max_abs_diff_px),
            "matched": self.matched,
            "matched_detections": self.agreement.matched,
            "missed": self.agreement.missed,
            "excused": self.agreement.excused,
            "map50_95": {"weights": weights_map, "bundle": bundle_map},
            "delta_map50_95": self.delta_map50_95,
            "worst_picture": {
                "picture": self.worst.picture,
                "max_abs_diff_scores": _finite(self.worst.max_abs_diff_scores),
                "max_abs_diff_px": _finite(self.worst.max_abs_diff_px),
            },
            "tolerances": asdict(self.tolerances),
        }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def verify_bundle(
    bundle: Path,
    weights: Path,
    data: Path,
    *,
    split: str = "val",
    place: Place | None = None,
    limit: int | None = None,
    accuracy: Callable[[Detector], tuple[float | None, float | None]] | None = None,
    progress: Progress = silent,
) -> ParityResult:
    """Compare a bundle with the checkpoint that it was exported from, picture by picture.

    In this order: class names, golden frames, letterbox (bit for bit against Ultralytics'), raw tensors, matched
    detections, accuracy. Without accuracy the verdict is no. One picture is in memory at a time, and one detector does
    all of it, because TensorRT takes minutes to build each.

    Args:
        bundle: the folder.
        weights: the checkpoint.
        data: a dataset folder or a ``data.yaml``.
        split: which split of it.
        place: where the bundle runs, and where TensorRT keeps its engine; None takes the CPU.
        limit: compare at most this many pictures, spread evenly over the split; None compares all.
        accuracy: measures mAP50-95 of weights and bundle on the split, None for either without boxes. It is handed
            in, because it belongs to evaluation; None leaves it to `ParityResult.with_accuracy`.
        progress: told after every picture.

    Raises:
        BundleError: the bundle cannot be used, or its output has another shape than that of the weights.
        WeightsError: the checkpoint cannot be used, or is not the one that the bundle was exported from.
        DatasetError, ImageError: a picture cannot be used.
        ProviderUnavailable: the provider cannot run here.
    """
    from drivetl.yolo import TorchModel, reference_letterbox

    opened = open_bundle(bundle)
    _check_source(opened, weights)
    dataset = open_dataset(data)
    samples = dataset.samples(split)
    place = place or Place()
    detector = detector_at(opened, place, limits_of(opened.contract, None, place, None))
    golden = self_test(detector)
    model = TorchModel(weights, one_to_one=opened.contract.decoding == "xyxy_one_to_one")
    tally = Tally(detector, model.raw, reference_letterbox, Tolerances.for_precision(opened.contract))
    tally.letterbox_odd_sizes()
    total = dataset.splits[split]
    count = min(limit or total, total)
    for sample in tracked(spread(samples, total, count), "compare", count, progress):
        tally.add(sample.image.name, decode_picture(sample.image))
    result = ParityResult(
        provider=detector.provider,
        split=split,
        dataset_fingerprint=dataset.fingerprint,
        pictures=count,
        classes_equal=tuple(model.names) == opened.contract.class_names,
        self_test=golden,
        **tally.figures(),
    )
    return result if accuracy is None else result.with_accuracy(*accuracy(detector))


def _check_source(bundle: Bundle, weights: Path) -> None:
    wanted = bundle.contract.source_weights_sha256
    try:
        found = sha256_file(weights)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {quoted(weights)}: {error.strerror or error}") from error
    if found != wanted:
        raise WeightsError(
            f"{quoted(weights)} has sha256 {found[:12]}…, but {quoted(bundle.path)} was exported from weights with "
            f"{quoted(wanted[:12])}…; give those weights, or export these"
        )
