"""The head learns first, on features that are computed once.

Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution" (ICLR 2022): with a
head that does not fit yet, the first gradients pull the features out of shape. So the backbone, its batch-norm
statistics included, stands still while the head learns; then everything learns. Since the features stand still, each
batch's are computed once and kept on disk.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.statistics import hold_batch_norm
from drivetl.errors import ConfigError, OutputError, quoted
from drivetl.progress import Progress, tracked
from drivetl.yolo.saving import save_tensors

__all__ = ["train_head"]

# What the loss needs of a batch beside the predictions.
_LABELS = ("batch_idx", "cls", "bboxes")


def train_head(
    model: Any,
    batches: Iterable[dict[str, Any]],
    count: int,
    criterion: Any,
    scratch: Path,
    config: TrainConfig,
    progress: Progress,
) -> int:
    """Train the last layer of a detection model in place and return the optimiser steps.

    Batch-norm inside the head stands still too: a phase of few pictures would only disturb it.

    Args:
        model: Ultralytics' DetectionModel on its device.
        batches: each with ``img`` as float (n, 3, h, w) in [0, 1] and the labels; gone through once.
        count: how many they are.
        criterion: from predictions and batch to the loss.
        scratch: a folder for the features.
        config: its ``head_epochs`` passes are made at ``lr0``, which falls to zero along a cosine.
        progress: told the batches.

    Raises:
        OutputError: the features do not fit on the disk.
        ConfigError: the loss is not finite.
    """
    head = model.model[-1]
    modes = {module: module.training for module in model.modules()}
    files = _keep_features(model, head, batches, count, scratch, progress)
    head.train()
    hold_batch_norm(head)
    parameters = [value for value in head.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr0, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(config.seed)
    steps = config.head_epochs * len(files)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    order = [int(i) for _ in range(config.head_epochs) for i in torch.randperm(len(files), generator=generator)]
    for index in tracked(order, "training the head", steps, progress):
        kept = torch.load(files[index], weights_only=True)
        loss, _ = criterion(head(kept["features"]), kept)
        if not bool(torch.isfinite(loss).all()):
            raise ConfigError(
                f"training diverged while the head learned alone: the loss is not finite with lr0 {config.lr0:g}; "
                "start a new run with a smaller --lr0"
            )
        optimizer.zero_grad()
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        schedule.step()
    optimizer.zero_grad(set_to_none=True)
    for module, training in modes.items():
        module.training = training
    return steps


def _check_room(scratch: Path, size: int, left: int) -> None:
    """Refuse before the disk is full: batches of wide pictures come first and are the smallest."""
    needed, free = size * left, shutil.disk_usage(scratch).free
    if needed > free:
        raise OutputError(
            f"the features that the head learns on take {needed / 1e9:.1f} GB more and {quoted(scratch)} has "
            f"{free / 1e9:.1f} GB left; free space, choose another --out, or leave the phase out with head_epochs 0"
        )


def _keep_features(
    model: Any, head: Any, batches: Iterable[dict[str, Any]], count: int, scratch: Path, progress: Progress
) -> list[Path]:
    """Write what the head is given for each batch, with the labels."""
    seen: list[list[torch.Tensor]] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(list(inputs[0])))
    files: list[Path] = []
    largest = 0
    model.eval()
    try:
        for batch in tracked(batches, "features for the head", count, progress):
            with torch.no_grad():
                model(batch["img"])
            files.append(scratch / f"features{len(files)}.pt")
            save_tensors({"features": seen.pop(), **{name: batch[name] for name in _LABELS}}, files[-1])
            largest = max(largest, files[-1].stat().st_size)
            _check_room(scratch, largest, count - len(files))
    finally:
        hook.remove()
    return files
