"""The self-test on the device: the bundle's golden frames must give the detections that were recorded at export.

``golden/expected.json`` holds, for each frame, the PNG's name and SHA-256, the confidence threshold, how far a
confidence may be off, and the detections that the exporting machine got on its CPU; beside them how far a box may be.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import BundleError, quoted
from drivetl.runtime.bundle import Bundle, open_bundle
from drivetl.runtime.detections import Detections
from drivetl.runtime.detector import Detector
from drivetl.runtime.overlap import match, visible

__all__ = ["EXPECTED_FILE", "GOLDEN_FOLDER", "SelfTest", "self_test"]

GOLDEN_FOLDER = "golden"
EXPECTED_FILE = "expected.json"
_EXPECTED_LIMIT_BYTES = 16 << 20
_FRAME_LIMIT_BYTES = 256 << 20
# Two detections of one class that overlap by half are taken for the same object; how far apart they are is measured.
_SAME_OBJECT_IOU = 0.5


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the golden frames gave on this device.

    Attributes:
        frames: how many there are.
        detections: how many detections were expected in all.
        missing: expected detections that did not come.
        unexpected: detections that came clearly above the threshold and were not expected.
        max_abs_diff_px: largest difference of a box side, in pixels of the model's input.
        max_abs_diff_confidence: largest difference of a confidence.
        passed: nothing missing or unexpected, and both differences within the tolerances of ``expected.json``.
    """

    frames: int
    detections: int
    missing: int
    unexpected: int
    max_abs_diff_px: float
    max_abs_diff_confidence: float
    passed: bool

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return asdict(self)


def self_test(bundle: str | Path | Bundle | Detector, provider: str = "cpu") -> SelfTest:
    """Run a bundle's golden frames on this device and compare the detections with the recorded ones.

    Args:
        bundle: the folder, a bundle that is already open, or the detector that is going to run.
        provider: ``cpu``, ``cuda`` or ``tensorrt``; a detector has its own.

    Raises:
        BundleError: the bundle or its golden frames cannot be used.
        ProviderUnavailable: the provider cannot run here.
    """
    if isinstance(bundle, Detector):
        opened = bundle.bundle
    else:
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    folder = opened.path / GOLDEN_FOLDER
    expected = _read_expected(folder / EXPECTED_FILE)
    detector = bundle if isinstance(bundle, Detector) else Detector(opened, provider=provider)
    found = [_compare(detector, frame, folder, expected.tolerance_px) for frame in expected.frames]
    return SelfTest(
        frames=len(found),
        detections=sum(len(frame.detections) for frame in expected.frames),
        missing=sum(difference.missing for difference in found),
        unexpected=sum(difference.unexpected for difference in found),
        max_abs_diff_px=max(difference.max_abs_diff_px for difference in found),
        max_abs_diff_confidence=max(difference.max_abs_diff_confidence for difference in found),
        passed=all(difference.passed for difference in found),
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    file: str
    sha256: str
    confidence: float
    tolerance_confidence: float
    detections: Detections


@dataclass(frozen=True, slots=True)
class _Expected:
    tolerance_px: float
    frames: tuple[_Frame, ...]


@dataclass(frozen=True, slots=True)
class _Difference:
    missing: int
    unexpected: int
    max_abs_diff_px: float
    max_abs_diff_confidence: float
    passed: bool


def _compare(detector: Detector, frame: _Frame, folder: Path, tolerance_px: float) -> _Difference:
    tensor, geometry = detector.preprocess(_read_frame(folder / frame.file, frame.sha256))
    # A little below the recorded threshold, so that a detection just above it there may fall just below it here.
    tolerance = frame.tolerance_confidence
    lowered = max(frame.confidence - tolerance, 0.0)
    found = visible(detector.postprocess(detector.infer(tensor), geometry, confidence=lowered))
    pairs = match(frame.detections, found, _SAME_OBJECT_IOU)
    wanted, got = [i for i, _ in pairs], [j for _, j in pairs]
    sides_px = np.abs(frame.detections.xyxy_px[wanted] - found.xyxy_px[got]) * geometry.scale
    confidence = np.abs(frame.detections.confidence[wanted] - found.confidence[got])
    worst_px, worst_confidence = float(sides_px.max(initial=0.0)), float(confidence.max(initial=0.0))
    clear = int((found.confidence > frame.confidence + tolerance).sum())
    matched_clear = int((found.confidence[got] > frame.confidence + tolerance).sum())
    missing, unexpected = len(frame.detections) - len(pairs), clear - matched_clear
    within = worst_px <= tolerance_px and worst_confidence <= tolerance
    return _Difference(missing, unexpected, worst_px, worst_confidence, within and not missing and not unexpected)


def _read_frame(path: Path, sha256: str) -> NDArray[np.uint8]:
    data = _read(path, _FRAME_LIMIT_BYTES)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(f"the golden frame {quoted(path)} was changed after export; export the bundle again")
    image_bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise BundleError(f"the golden frame {quoted(path)} is not a picture; export the bundle again")
    return np.asarray(image_bgr, np.uint8)


def _read_expected(path: Path) -> _Expected:
    try:
        document = json.loads(_read(path, _EXPECTED_LIMIT_BYTES))
        frames = tuple(_frame(entry) for entry in document["frames"])
        expected = _Expected(float(document["tolerance_px"]), frames)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise BundleError(
            f"{quoted(path)} does not hold golden detections ({type(error).__name__}: {quoted(error, 80)}); "
            "export the bundle again"
        ) from error
    if not frames or not all(len(frame.detections) for frame in frames):
        raise BundleError(f"{quoted(path)} has a frame without expected detections, or none; export the bundle again")
    return expected


def _frame(entry: dict[str, Any]) -> _Frame:
    file = str(entry["file"])
    if Path(file).name != file:
        raise ValueError(f"{file} is not a plain file name")
    rows = entry["detections"]
    detections = Detections(
        np.array([row["xyxy_px"] for row in rows], np.float32).reshape(-1, 4),
        np.array([row["confidence"] for row in rows], np.float32),
        np.array([row["class_id"] for row in rows], np.int64),
    )
    if not (np.isfinite(detections.xyxy_px).all() and np.isfinite(detections.confidence).all()):
        raise ValueError("a value is not finite")
    confidence, tolerance = float(entry["confidence"]), float(entry["tolerance_confidence"])
    return _Frame(file, str(entry["sha256"]), confidence, tolerance, detections)


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as handle:
            data = handle.read(limit_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else error
        raise BundleError(f"cannot read {quoted(path)}: {quoted(reason, 80)}; export the bundle again") from error
    if len(data) > limit_bytes:
        raise BundleError(f"{quoted(path)} is larger than {limit_bytes} bytes; export the bundle again")
    return data
