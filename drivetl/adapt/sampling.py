"""Which pictures make up an epoch, and in which order: replay beside the target's, rare classes more often."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence

import torch

__all__ = ["EpochBatches", "repeat_factors"]


def repeat_factors(classes_of: Sequence[frozenset[Hashable]], threshold: float) -> list[float]:
    """Return how often each picture is shown: ``max over its classes of sqrt(threshold / frequency)``, at least 1.

    Gupta, Dollar and Girshick, "LVIS" (CVPR 2019), on repeat-factor sampling; the frequency of a class is the share of
    pictures that hold it.

    Args:
        classes_of: the classes that stand in each picture.
        threshold: share of the pictures, 0 to 1; 0 repeats nothing.
    """
    count = len(classes_of)
    frequency: dict[Hashable, float] = {}
    for classes in classes_of:
        for index in classes:
            frequency[index] = frequency.get(index, 0.0) + 1 / count
    return [max([1.0, *(math.sqrt(threshold / frequency[index]) for index in classes)]) for classes in classes_of]


class EpochBatches:
    """Batches of picture numbers, another order every time it is iterated.

    Every target picture comes at least once an epoch, by its repeat factor (a fraction decides by chance). Replay
    pictures are drawn without repetition until all have come, and spread evenly, so that each batch has its share.

    Args:
        targets: how many target pictures there are; they are numbered from 0.
        replays: how many replay pictures there are; they are numbered after the target's.
        batch: pictures of a batch; the last one of an epoch may be smaller.
        ratio: replay pictures for each target picture of an epoch.
        factors: how often each target picture is shown; None: once.
        generator: of the order.
    """

    def __init__(
        self,
        targets: int,
        replays: int,
        *,
        batch: int,
        ratio: float,
        factors: Sequence[float] | None,
        generator: torch.Generator,
    ) -> None:
        self._targets = targets
        self._replays = replays
        self._factors = torch.tensor(factors if factors is not None else [1.0] * targets, dtype=torch.float64)
        # The length of an epoch must not depend on chance: fractions are dealt out, not drawn one by one.
        self._shown = round(float(self._factors.sum()))
        self._drawn = math.ceil(ratio * self._shown - 1e-9) if replays else 0
        self._batch = min(batch, self._shown + self._drawn)
        self._generator = generator

    @property
    def pictures(self) -> tuple[int, int]:
        """Target pictures and replay pictures of an epoch."""
        return self._shown, self._drawn

    def __len__(self) -> int:
        return math.ceil((self._shown + self._drawn) / self._batch)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of one epoch."""
        targets = self._target_order()
        replays = [self._targets + index for index in self._replay_order()]
        # Where each stands on a line from 0 to 1: both kinds fill it evenly.
        line = [((i + 0.5) / len(kind), index) for kind in (targets, replays) for i, index in enumerate(kind)]
        order = [index for _, index in sorted(line)]
        for first in range(0, len(order), self._batch):
            yield order[first : first + self._batch]

    def _target_order(self) -> list[int]:
        whole = self._factors.floor()
        missing = self._shown - int(whole.sum())
        if missing > 0:
            extra = torch.multinomial((self._factors - whole).clamp(min=1e-9), missing, generator=self._generator)
            whole[extra] += 1
        shown = torch.repeat_interleave(torch.arange(self._targets), whole.long())
        order: list[int] = shown[torch.randperm(len(shown), generator=self._generator)].tolist()
        return order

    def _replay_order(self) -> list[int]:
        order: list[int] = []
        while len(order) < self._drawn:
            order += torch.randperm(self._replays, generator=self._generator).tolist()
        return order[: self._drawn]
