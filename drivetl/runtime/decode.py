"""The one decoder: network output to detections in picture pixels.

Three layouts of output exist; the contract says which a bundle has:

- ``cxcywh_scores``: ``(batch, 4 + classes, anchors)``: centre x, centre y, width, height in input pixels, then class
  scores after the sigmoid. YOLOv8, YOLO11, and YOLO26 with its one-to-many head. Wants non-maximum suppression.
- ``xyxy_one_to_one``: ``(batch, rows, 6)``: left, top, right, bottom in input pixels, confidence, class id, most
  confident first. YOLO26's one-to-one head, which was trained to answer once for each object: nothing to suppress.
- ``xyxy_nms``: the same rows after class-wise suppression inside the graph; rows that stand for nothing are zero.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import BundleError
from drivetl.runtime.detections import Detections
from drivetl.runtime.letterbox import Geometry

__all__ = ["BOX_ROWS", "DECODINGS", "decode"]

BOX_ROWS = ("xyxy_one_to_one", "xyxy_nms")
DECODINGS = ("cxcywh_scores", *BOX_ROWS)

# More candidates than this go into non-maximum suppression by confidence only; Ultralytics draws the line here too.
_MAX_CANDIDATES = 30_000
# Bytes of scores that are gathered at a time: they stay in the first-level cache, and a frame allocates little.
_CHUNK_BYTES = 16 << 10


def decode(
    raw: NDArray[np.float32],
    geometry: Geometry,
    *,
    confidence: float = 0.25,
    iou: float = 0.7,
    max_detections: int = 300,
    multi_label: bool = False,
    decoding: str = "cxcywh_scores",
) -> Detections:
    """Decode the output of a detector for one picture.

    Args:
        raw: float32, the first picture's part of it: ``(1, 4 + classes, anchors)`` or ``(1, rows, 6)``, see above.
        geometry: how the picture was letterboxed.
        confidence: candidates must score more than this.
        iou: of two boxes of one class that overlap more than this, the less confident goes (class-wise NMS).
        max_detections: only the most confident ones are returned.
        multi_label: let one box stand for every class above the threshold, as accuracy is measured; otherwise only
            for its best class, as a car wants it. Rows are what they are.
        decoding: one of `DECODINGS`.

    Returns:
        Detections in pixels of the original picture, most confident first.

    Raises:
        BundleError: scores, or boxes that score enough, are no finite numbers. No comparison holds for such a score, so
            it would pass for an empty road.
    """
    if decoding in BOX_ROWS:
        return _rows(raw[0], geometry, confidence, max_detections)
    scores = raw[0, 4:]
    best = scores.max(axis=0)
    _require_finite(best)
    if multi_label:
        class_id, anchor = np.nonzero(scores > confidence)
        kept = scores[class_id, anchor]
    else:
        anchor = np.flatnonzero(best > confidence)
        kept = best[anchor]
        class_id = _best_class(scores, anchor)
    del best  # the largest array of a frame
    if len(kept) > _MAX_CANDIDATES:
        strongest = np.argsort(-kept, kind="stable")[:_MAX_CANDIDATES]
        class_id, anchor, kept = class_id[strongest], anchor[strongest], kept[strongest]
    centre_size = raw[0, :4, anchor]  # (n, 4): advanced indexing moves the anchors to the front
    _require_finite(centre_size)
    corner_size = centre_size.astype(np.float64)
    corner_size[:, :2] -= corner_size[:, 2:] / 2
    order = _suppress(corner_size, kept, class_id, iou)[:max_detections]
    half = centre_size[order, 2:] / 2
    xyxy_px = np.concatenate((centre_size[order, :2] - half, centre_size[order, :2] + half), axis=1, dtype=np.float32)
    return Detections(
        geometry.to_image(xyxy_px), kept[order].astype(np.float32), class_id[order].astype(np.int64, copy=False)
    )


def _rows(rows: NDArray[np.float32], geometry: Geometry, confidence: float, max_detections: int) -> Detections:
    """Return the detections that rows ``(n, 6)`` above the threshold stand for."""
    _require_finite(rows[:, 4])
    kept = rows[rows[:, 4] > confidence]
    _require_finite(kept)
    # A stable sort of what comes sorted: it only matters where a device's top-k breaks its promise.
    kept = kept[np.argsort(-kept[:, 4], kind="stable")[:max_detections]]
    return Detections(geometry.to_image(kept[:, :4]), kept[:, 4], kept[:, 5].astype(np.int64))


def _require_finite(values: NDArray[np.float32]) -> None:
    if not np.isfinite(values).all():
        raise BundleError(
            "the model's output holds values that are no numbers, so nothing can be said of the picture; fresh from "
            "training it diverged: train with a smaller --lr0; as fp16 its weights may not fit: export in fp32"
        )


def _best_class(scores: NDArray[np.float32], anchor: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first best class, int64 ``(n,)``, of the given anchors of scores ``(classes, anchors)``."""
    class_id = np.empty(len(anchor), np.int64)
    step = max(_CHUNK_BYTES // (scores.itemsize * len(scores)), 1)
    for start in range(0, len(anchor), step):
        part = slice(start, start + step)
        scores[:, anchor[part]].argmax(axis=0, out=class_id[part])
    return class_id


def _suppress(
    corner_size: NDArray[np.float64], scores: NDArray[np.float32], class_id: NDArray[np.int64], iou: float
) -> NDArray[np.int64]:
    """Return the indices that survive class-wise greedy suppression, most confident first."""
    if not len(scores):
        return np.zeros(0, dtype=np.int64)
    # OpenCV keeps the classes apart by moving each a picture's width further, counted from zero: no box may lie below.
    corner_size[:, :2] -= corner_size[:, :2].min(axis=0)
    # A threshold of zero, because the candidates are already above the caller's.
    kept = cv2.dnn.NMSBoxesBatched(corner_size, scores, class_id.astype(np.int32), 0.0, iou)  # type: ignore[arg-type]
    return np.asarray(kept, dtype=np.int64).reshape(-1)
