"""Distillation: what the start model says of a picture is a target beside the labels.

It keeps what must not be forgotten (Li and Hoiem, "Learning without forgetting", ECCV 2016), and it fills in what a
dataset does not label. Under weather the teacher sees the clean picture and the student the changed one, so that the
student learns to see through the weather.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch.nn import functional

from drivetl.yolo.ultra import Detect

__all__ = ["DistillationLoss", "distillation", "teacher_of"]

# Ultralytics' gains of the same terms in the loss on labels.
_CLASS_GAIN, _BOX_GAIN = 0.5, 1.5


def teacher_of(model: Any) -> Any:
    """Return a frozen copy of a detection model that gives raw predictions by its own batch-norm statistics."""
    teacher = deepcopy(model).requires_grad_(False).eval()
    for module in teacher.modules():
        if isinstance(module, Detect):
            # Its raw output is that of training; what lies inside stays in evaluation.
            module.training = True
    return teacher


def distillation(student: dict[str, Any], teacher: dict[str, Any], classes: Sequence[int]) -> torch.Tensor:
    """Return how far a student's raw predictions are from a teacher's, as one number.

    Class scores by binary cross-entropy against the teacher's probabilities, divided by their sum; box edges by
    cross-entropy against the teacher's distributions, each place weighted by the teacher's highest probability.

    Args:
        student, teacher: ``scores`` (n, classes, places) and ``boxes`` (n, 4 * bins, places), logits; heads with two
            branches hold two such.
        classes: ids of the classes that the teacher knows; places are weighted by these alone.
    """
    if "one2many" in student:
        many, one = (distillation(student[name], teacher[name], classes) for name in ("one2many", "one2one"))
        return many + one
    probability = teacher["scores"][:, classes].float().sigmoid()
    scores = student["scores"][:, classes].float()
    class_loss: torch.Tensor = functional.binary_cross_entropy_with_logits(scores, probability, reduction="sum")
    weight = probability.amax(1)
    box_loss: torch.Tensor = (_box_distance(student["boxes"].float(), teacher["boxes"].float()) * weight).sum()
    class_loss /= probability.sum().clamp(min=1)
    box_loss /= weight.sum().clamp(min=1)
    return _CLASS_GAIN * class_loss + _BOX_GAIN * box_loss


def _box_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return (n, places): the mean over four edges of the distance between their distributions, or their values."""
    n, channels, places = student.shape
    if channels == 4:  # YOLO26 predicts the edges themselves
        return functional.smooth_l1_loss(student, teacher, reduction="none").mean(1)
    student, teacher = (boxes.view(n, 4, channels // 4, places) for boxes in (student, teacher))
    # Kullback-Leibler: zero where they agree.
    divergence = functional.kl_div(student.log_softmax(2), teacher.log_softmax(2), reduction="none", log_target=True)
    return divergence.sum(2).mean(1)


class DistillationLoss:
    """A model's criterion with the distance from a teacher added; everything else is the criterion's own.

    Args:
        criterion: the loss on labels.
        teacher: see `teacher_of`.
        weight: factor of the distance.
        classes: ids of the classes that the teacher knows.
    """

    def __init__(self, criterion: Any, teacher: Any, weight: float, classes: Sequence[int]) -> None:
        self._criterion = criterion
        self._teacher = teacher
        self._weight = weight
        self._classes = list(classes)

    def __call__(self, predictions: Any, batch: Any) -> Any:
        """Return the loss, one more term than the criterion's, and the criterion's items for the log."""
        loss, items = self._criterion(predictions, batch)
        if not self._classes:
            return loss, items
        pictures = batch.get("clean", batch["img"])
        with torch.no_grad():
            targets = self._teacher(pictures)
        with torch.autocast(pictures.device.type, enabled=False):
            extra = self._weight * len(pictures) * distillation(predictions, targets, self._classes)
        return torch.cat([loss.view(-1), extra.view(1)]), items

    def __getattr__(self, name: str) -> Any:
        if name == "_criterion":  # while a copy is made, it is not there yet
            raise AttributeError(name)
        return getattr(self._criterion, name)
