"""Learning from unlabelled pictures: a slowly moving teacher labels them for its student.

Tarvainen and Valpola, "Mean teachers are better role models" (NeurIPS 2017); for detectors Liu et al., "Unbiased
teacher" (ICLR 2021). The teacher is the moving average of the student and sees the picture as it is; the student sees
the same picture in weather, and is to find there what the teacher found in the clear. No label of these pictures is
read; source pictures that are shown beside them (``replay``) keep theirs, as in Unbiased Teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from drivetl.yolo.ultra import non_max_suppression

__all__ = ["class_thresholds", "pseudo_labels"]

# Below it a detection is no evidence at all.
_FLOOR = 0.1
# However sure or unsure the start is of a class, its threshold stays between these.
_LOWEST, _HIGHEST = 0.25, 0.7
_IOU = 0.6
_NO_LABELS = {"batch_idx": (0,), "cls": (0, 1), "bboxes": (0, 4)}


def class_thresholds(model: Any, batches: Iterable[torch.Tensor], classes: Sequence[int]) -> dict[int, float]:
    """Return for each class the confidence from which on the start's detections are taken for labels.

    If confidences are about right, their sum is the number of true objects among the detections of a class. So many
    are taken, the most confident ones, and the threshold is the confidence of the last. It needs no label, and it
    follows each class's own level: a detector is rarely as sure of a motorcycle as of a car.

    Args:
        model: the start, in evaluation mode.
        batches: pictures as float tensors (n, 3, h, w) in [0, 1].
        classes: ids of the classes that the start knows; others get no pseudo-labels.
    """
    found: dict[int, list[float]] = {index: [] for index in classes}
    with torch.no_grad():
        for batch in batches:
            for detections in _detections(model, batch, _FLOOR):
                for confidence, index in detections[:, 4:6].tolist():
                    if int(index) in found:
                        found[int(index)].append(confidence)
    return {index: _count_matched(confidences) for index, confidences in found.items()}


def _count_matched(confidences: list[float]) -> float:
    ordered = sorted(confidences, reverse=True)
    expected = round(sum(ordered))
    if not expected:
        return _HIGHEST
    return min(_HIGHEST, max(_LOWEST, ordered[expected - 1]))


def pseudo_labels(model: Any, pictures: torch.Tensor, thresholds: dict[int, float]) -> dict[str, torch.Tensor]:
    """Return what a teacher finds, as labels of a batch: ``batch_idx`` (n,), ``cls`` (n, 1), ``bboxes`` (n, 4).

    Args:
        model: the teacher, in evaluation mode.
        pictures: float (b, 3, h, w) in [0, 1]; a small batch may hold none but source pictures, and b be 0.
        thresholds: see `class_thresholds`.
    """
    if not len(pictures):  # which Ultralytics' head cannot reshape
        return {name: torch.zeros(shape, device=pictures.device) for name, shape in _NO_LABELS.items()}
    height, width = pictures.shape[2:]
    size = torch.tensor([width, height, width, height], device=pictures.device)
    parts = []
    with torch.no_grad():
        for number, detections in enumerate(_detections(model, pictures, min(thresholds.values(), default=1.0))):
            limit = torch.tensor([thresholds.get(int(index), 2.0) for index in detections[:, 5]], device=size.device)
            sure = detections[detections[:, 4] >= limit]
            corners = sure[:, :4] / size
            boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
            parts.append(torch.cat([torch.full_like(sure[:, :1], number), sure[:, 5:6], boxes], 1))
    rows = torch.cat(parts)
    return {"batch_idx": rows[:, 0], "cls": rows[:, 1:2], "bboxes": rows[:, 2:]}


def _detections(model: Any, pictures: torch.Tensor, confidence: float) -> list[torch.Tensor]:
    """Return for each picture (n, 6): corners in pixels, confidence, class.

    In single precision also inside a training that computes in less: bfloat16 knows places above 256 px to 2 px only.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        predictions = model(pictures.float())
    raw = predictions[0] if isinstance(predictions, list | tuple) else predictions
    found: list[torch.Tensor] = non_max_suppression(
        raw.float(), confidence, _IOU, max_time_img=60.0, end2end=raw.shape[-1] == 6
    )
    return found
