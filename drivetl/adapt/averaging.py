"""Weights between two models of one architecture (WiSE-FT)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

__all__ = ["interpolate"]


def interpolate(
    start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Return ``(1 - share) * start + share * end``, entry by entry; counters are taken from ``end``.

    Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022): fine-tuned weights, mixed with the weights
    that they started from, keep much of what the start knew. Batch-norm statistics are mixed like weights.

    Args:
        start: state dict of the start, head transferred.
        end: state dict of the fine-tuned model, with the same keys and shapes.
        share: of the end, 0 to 1.
    """
    return {
        name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value.clone()
        for name, value in end.items()
    }
