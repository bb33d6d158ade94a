"""Averages of weights: over the steps of a run, and between its start and its end (WiSE-FT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import torch

from drivetl.yolo.ultra import ModelEMA

__all__ = ["interpolate", "moving_average", "on_cpu"]


def interpolate(
    start: Mapping[str, torch.Tensor],
    end: Mapping[str, torch.Tensor],
    share: float,
    *,
    new_entries: Set[str] = frozenset(),
    new_rows: Sequence[int] = (),
) -> dict[str, torch.Tensor]:
    """Return ``(1 - share) * start + share * end``, entry by entry; counters are taken from ``end``.

    Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022): fine-tuned weights, mixed with the weights
    that they started from, keep much of what the start knew. Batch-norm statistics are mixed like weights.

    Args:
        start: state dict of the start, head transferred.
        end: state dict of the fine-tuned model, with the same keys and shapes.
        share: of the end, 0 to 1.
        new_entries, new_rows: names, and rows of them, that mean nothing at the start, because it did not know the
            class: any share but 0 takes the end's whole.
    """
    mixed = {
        name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value.clone()
        for name, value in end.items()
    }
    if share > 0:
        for name in new_entries:
            mixed[name][list(new_rows)] = end[name][list(new_rows)]
    return mixed


def moving_average(model: Any, steps: int, share: float = 0.1) -> Any:
    """Return an average over about the last ``share`` of the run, and over less while it is young.

    Ultralytics' own average reaches back thousands of steps, which a small dataset never makes.
    """
    horizon = max(1.0, steps * share)
    decay = min(0.9999, 1.0 - 1.0 / horizon)
    return ModelEMA(model, decay=decay, tau=min(2000.0, max(1.0, steps / 5)))


def on_cpu(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a copy on the CPU that nothing else holds."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
