"""Golden frames: pictures that travel in the bundle with the detections that they must give on every device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.data import open_dataset
from drivetl.data.pictures import decode_picture
from drivetl.errors import DatasetError, WeightsError, quoted
from drivetl.files import write_json
from drivetl.runtime import Detections, Detector
from drivetl.runtime.overlap import visible
from drivetl.runtime.selftest import EXPECTED_FILE, GOLDEN_FOLDER

__all__ = ["FRAMES", "SYNTHETIC", "golden_pictures", "synthetic_frame", "write_golden"]

FRAMES = 3
SYNTHETIC = "synthetic"
_SCHEMA_VERSION = 1
_ABOVE_GRAPH = 1.5  # times the threshold inside the graph: clear of it by more than any tolerance below
_SPLITS = ("val", "test", "train")
# float32 on another CPU rounds sums in another order; measured between torch and ONNX Runtime that is below 1e-4 in
# confidence and 0.01 px. Ten times as much is still far below what a wrong letterbox or channel order does.
# Where the model sees little, confidences are small, and so is what rounding does to them: there, a share of the
# threshold counts. fp16 rounds 8,000 times as coarsely as fp32, but only up to the decoding tail; int8 kernels of other
# processors add up in other widths, so a value may land a few of its 256 levels away: allowances, not measurements.
# By precision: confidence, share of the threshold, pixels of the input.
_TOLERANCES = {"fp32": (1e-3, 0.02, 0.1), "fp16": (0.05, 0.1, 8.0), "int8": (0.1, 0.2, 8.0)}


def synthetic_frame(size_hw: tuple[int, int] = (720, 1280), seed: int = 0) -> NDArray[np.uint8]:
    """Return a street of flat shapes under sensor noise, uint8 ``(h, w, 3)`` BGR; the same seed gives the same bytes.

    It stands in where no real picture is at hand: its content exercises every stage, but says nothing of accuracy.
    """
    rng = np.random.default_rng(seed)
    height, width = size_hw
    horizon = height * 2 // 5
    image = np.empty((height, width, 3), np.float64)
    image[:horizon] = np.linspace((220, 170, 130), (235, 220, 205), max(horizon, 1))[:horizon, None]
    image[horizon:] = (95, 95, 95)
    canvas = image.astype(np.uint8)
    lane = np.array([[width // 2 - 4, horizon], [width // 2 + 4, horizon], [width * 2 // 3, height]], np.int32)
    cv2.fillPoly(canvas, [lane], (200, 205, 210))
    for left_share in rng.uniform(0.02, 0.85, 6):
        nearness = rng.uniform(0.15, 1.0)
        car_width, base = int(width * 0.16 * nearness) + 2, horizon + int((height - horizon) * 0.8 * nearness)
        left, top = int(width * left_share), base - int(car_width * 0.7)
        colour = tuple(int(level) for level in rng.integers(20, 230, 3))
        cv2.rectangle(canvas, (left, top), (left + car_width, base), colour, -1)
        cv2.rectangle(
            canvas,
            (left + car_width // 8, top + car_width // 12),
            (left + car_width * 7 // 8, top + car_width // 3),
            (60, 50, 45),
            -1,
        )
        for wheel in (left + car_width // 5, left + car_width * 4 // 5):
            cv2.circle(canvas, (wheel, base), max(car_width // 10, 1), (20, 20, 20), -1)
    noisy = canvas + rng.normal(0.0, 4.0, canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def golden_pictures(dataset: Path | None, count: int = FRAMES) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield names and BGR pictures: spread over a dataset's validation split, or one synthetic frame without one.

    Raises:
        DatasetError: the dataset cannot be read or has none of the splits val, test and train.
        ImageError: a picture of it cannot be decoded.
    """
    if dataset is None:
        yield SYNTHETIC, synthetic_frame()
        return
    opened = open_dataset(dataset)
    split = next((name for name in _SPLITS if name in opened.splits), None)
    if split is None:
        raise DatasetError(f"the dataset {quoted(dataset)} has no split val, test or train to take golden frames from")
    paths = opened.pictures(split)
    for index in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)):
        yield paths[index].name, decode_picture(paths[index])


def write_golden(detector: Detector, dataset: Path | None, bundle: Path) -> int:
    """Write golden frames and what the detector finds on them into ``bundle/golden``; return how many frames.

    Raises:
        DatasetError, ImageError: see `golden_pictures`.
        WeightsError: the model finds nothing at all, at any confidence.
        OSError: a file cannot be written.
    """
    folder = bundle / GOLDEN_FOLDER
    folder.mkdir()
    frames = [_write_frame(detector, folder, *named) for named in enumerate(golden_pictures(dataset))]
    write_json(
        folder / EXPECTED_FILE,
        {
            "schema_version": _SCHEMA_VERSION,
            "tolerance_px": _TOLERANCES[detector.contract.precision][2],
            "frames": frames,
        },
    )
    return len(frames)


def _write_frame(
    detector: Detector, folder: Path, index: int, picture: tuple[str, NDArray[np.uint8]]
) -> dict[str, Any]:
    name, image_bgr = picture
    encoded = cv2.imencode(".png", image_bgr)[1].tobytes()
    file = f"frame-{index:02d}.png"
    (folder / file).write_bytes(encoded)
    tensor, geometry = detector.preprocess(image_bgr)
    raw = detector.infer(tensor)
    everything = visible(detector.postprocess(raw, geometry, confidence=0.0))
    if not len(everything):
        raise WeightsError(
            f"the model gives no box any score on the golden frame {quoted(name)}: its weights are broken"
        )
    most, share, _ = _TOLERANCES[detector.contract.precision]
    # A frame on which nothing is found would test nothing: where the model sees little, the bar is lowered, but not
    # to what suppression inside the graph cuts off, where rounding would decide what comes out.
    confidence = min(detector.confidence, float(everything.confidence[0]) / 2)
    confidence = max(confidence, _ABOVE_GRAPH * detector.contract.graph_confidence)
    found = everything.above(confidence)
    if not len(found):
        raise WeightsError(
            f"the model scores nothing above {confidence:g} on the golden frame {quoted(name)}, where suppression in "
            "the graph begins; give --golden DATASET, or leave --in-graph-nms out"
        )
    return {
        "file": file,
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "source": name,
        "confidence": confidence,
        "tolerance_confidence": min(most, share * confidence),
        "detections": _rows(found, detector),
    }


def _rows(detections: Detections, detector: Detector) -> list[dict[str, Any]]:
    names = detector.contract.class_names
    return [
        {"class_id": int(class_id), "class_name": names[class_id], "confidence": float(score), "xyxy_px": box.tolist()}
        for box, score, class_id in zip(detections.xyxy_px, detections.confidence, detections.class_id, strict=True)
    ]
