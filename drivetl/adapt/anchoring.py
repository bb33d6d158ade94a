"""What holds the weights near those they started from: layer-wise learning rates and the pull of L2-SP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["Anchor", "decay_by_layer"]

_LAYER = re.compile(r"model\.(\d+)\.")


def decay_by_layer(optimizer: Any, model: Any, decay: float) -> None:
    """Give each layer its own learning rate in place: ``decay`` to the power of its distance from the head.

    Howard and Ruder, "Universal language model fine-tuning" (ACL 2018): layers near the input hold what is common to
    all roads and should move least.

    Args:
        optimizer: whose groups hold parameters of ``model`` and a rate ``lr``; it must not have stepped yet.
        model: Ultralytics' DetectionModel, whose last layer is the head.
        decay: factor for one layer, above 0 up to 1.
    """
    head = len(model.model) - 1
    layer_of = {id(value): int(_layer(name, head)) for name, value in model.named_parameters()}
    groups = list(optimizer.param_groups)
    optimizer.param_groups.clear()
    for group in groups:
        parts: dict[int, list[Any]] = {}
        for value in group["params"]:
            parts.setdefault(layer_of[id(value)], []).append(value)
        for layer in sorted(parts, reverse=True):
            rate = group["lr"] * decay ** (head - layer)
            optimizer.add_param_group({**group, "params": parts[layer], "lr": rate})


def _layer(name: str, head: int) -> str | int:
    found = _LAYER.match(name)
    return found.group(1) if found else head


class Anchor:
    """The start's weights, and the pull towards them.

    Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional networks" (ICML
    2018). As AdamW does with weight decay, the pull is applied to the weights and not to the gradient, so that Adam's
    normalisation does not undo it.

    Args:
        model: the start, head transferred.
        strength: share of the way back that one step goes at the full learning rate.
        free: names of parameters that are not held, because they did not come with the start.
    """

    def __init__(self, model: Any, strength: float, free: Mapping[str, object] | frozenset[str] = frozenset()) -> None:
        self._strength = strength
        self._start = {
            name: value.detach().clone()
            for name, value in model.named_parameters()
            if value.requires_grad and name not in free
        }

    def pull(self, model: Any, rate: float) -> None:
        """Move the weights towards the start.

        Args:
            model: the model that is trained.
            rate: learning rate of this step as a share of the full one.
        """
        weight = self._strength * rate
        if weight <= 0:
            return
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in self._start:
                    value.lerp_(self._start[name].to(value), min(1.0, weight))
