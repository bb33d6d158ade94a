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
    """Replace the statistics of every batch-norm layer in place by those of all pictures together.

    Li et al., "Revisiting batch normalization for practical domain adaptation" (2016): the weights stay, and the
    statistics become those of the new domain. No label is needed. While they are taken, each layer normalises by its
    batch; every picture counts the same, also in a last batch of few, and the variance holds what differs from batch to
    batch, which a mean of the batches' variances leaves out.

    Args:
        model: the network; its mode is restored afterwards.
        batches: pictures as float tensors (n, 3, h, w) in [0, 1], at least one batch.
    """
    modules = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    sums = {module: _Sums() for module in modules}
    hooks = [module.register_forward_pre_hook(lambda m, given: sums[m].add(given[0])) for module in modules]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in modules:
        module.train()
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch)
        for module, found in sums.items():
            state = dict(module.named_buffers())
            state["running_mean"].copy_(found.mean)
            state["running_var"].copy_(found.variance)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training


class _Sums:
    """Sums over what a layer was given, by channel; in float64, because the variance is a small difference of them."""

    def __init__(self) -> None:
        self._count = 0
        self._first: torch.Tensor | float = 0.0
        self._second: torch.Tensor | float = 0.0

    def add(self, x: torch.Tensor) -> None:
        values = x.detach().double().transpose(0, 1).flatten(1)
        self._count += values.shape[1]
        self._first = self._first + values.sum(1)
        self._second = self._second + values.square().sum(1)

    @property
    def mean(self) -> Any:
        return self._first / self._count

    @property
    def variance(self) -> Any:
        """Without bias, as batch-norm keeps it."""
        spread = self._second / self._count - self.mean**2
        return spread.clamp(min=0) * (self._count / max(1, self._count - 1))
