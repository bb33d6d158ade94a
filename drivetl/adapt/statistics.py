"""Batch-norm statistics of other pictures than those that a network was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["estimate_batch_norm", "hold_batch_norm"]


def hold_batch_norm(model: Any) -> None:
    """Let every batch-norm layer of a training model normalise by its stored statistics and leave them alone."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()


def estimate_batch_norm(model: Any, batches: Iterable[torch.Tensor]) -> None:
    """Replace the statistics of every batch-norm layer in place by the mean over batches, all weighing the same.

    Li et al., "Revisiting batch normalization for practical domain adaptation" (2016): the weights stay, and the
    statistics become those of the new domain. No label is needed.

    Args:
        model: the network; its mode is restored afterwards.
        batches: pictures as float tensors (n, 3, h, w) in [0, 1], at least one batch.
    """
    modules = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [module.momentum for module in modules]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in modules:
        module.train()
        module.reset_running_stats()
        module.momentum = None  # torch's word for a plain mean over all batches
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch)
    finally:
        for module, momentum in zip(modules, momenta, strict=True):
            module.momentum = momentum
        for module, training in modes.items():
            module.training = training
