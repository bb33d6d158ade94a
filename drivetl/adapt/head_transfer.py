"""Carry the rows of the classifier over to new classes, by meaning and never by position.

A YOLO head scores class k at level i with row k of a 1x1 convolution, ``cv3[i][-1]``; YOLO26 has a second such head,
``one2one_cv3``. Only that last convolution is replaced. What lies before it keeps its width, which a model rebuilt for
another number of classes would not, so that the copied rows see the features they were trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from drivetl.taxonomy import canonical_name, sources_for

__all__ = ["HeadRow", "plan_transfer", "transfer_head", "transfer_table", "untrained_parameters"]

Kind = Literal["same", "synonym", "relative", "none"]


@dataclass(frozen=True, slots=True)
class HeadRow:
    """Where the classifier row of one class starts from.

    Attributes:
        target: the class of the dataset.
        sources: classes of the checkpoint; the mean of their rows is taken. Empty: the row starts untrained.
        kind: ``same`` name, ``synonym`` (same class, other name), ``relative`` (looks alike) or ``none``.
    """

    target: str
    sources: tuple[str, ...]
    kind: Kind

    def document(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {"target": self.target, "sources": list(self.sources), "kind": self.kind}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> HeadRow:
        """Read back what `document` gave."""
        return cls(document["target"], tuple(document["sources"]), document["kind"])


def plan_transfer(target_names: Sequence[str], source_names: Sequence[str]) -> tuple[HeadRow, ...]:
    """Return where each target class starts from; see `drivetl.taxonomy.sources_for`."""
    return tuple(_row(target, sources_for(target, source_names)) for target in target_names)


def _row(target: str, sources: tuple[str, ...]) -> HeadRow:
    if not sources:
        return HeadRow(target, (), "none")
    if any(canonical_name(source) != canonical_name(target) for source in sources):
        return HeadRow(target, sources, "relative")
    return HeadRow(target, sources, "same" if sources[0].casefold() == target.casefold() else "synonym")


def transfer_head(model: Any, target_names: Sequence[str], *, seed: int) -> tuple[HeadRow, ...]:
    """Give an unfused detection model new classes in place.

    Every class head and every level gets a new last convolution: copied or averaged rows where there is a source, and
    elsewhere small random weights with the bias that a rare class starts from (a prior of 5 objects in a picture of
    640 x 640, over all classes, as in RetinaNet, arXiv 1708.02002).

    Args:
        model: Ultralytics' DetectionModel.
        target_names: the new classes, in the order of their ids.
        seed: for the rows that start untrained.

    Returns:
        One `HeadRow` per new class.
    """
    source_names = list(model.names.values()) if isinstance(model.names, dict) else list(model.names)
    rows = plan_transfer(target_names, source_names)
    indices = [[source_names.index(source) for source in row.sources] for row in rows]
    generator = torch.Generator().manual_seed(seed)
    head = model.model[-1]
    for levels in _class_heads(head):
        level: Any
        for level, stride in zip(levels, head.stride.tolist(), strict=True):
            prior = math.log(5 / len(rows) / (640 / stride) ** 2)
            level[-1] = _transferred(level[-1], indices, prior, generator)
    head.nc = len(rows)
    head.no = head.nc + 4 * head.reg_max
    model.nc = head.nc
    model.names = dict(enumerate(target_names))
    model.yaml["nc"] = head.nc
    # The loss was built for the old number of classes.
    model.criterion = None
    return rows


def untrained_parameters(model: Any, rows: Sequence[HeadRow]) -> frozenset[str]:
    """Return the names of the parameters that hold rows which did not come with the start; empty if every row did."""
    if all(row.sources for row in rows):
        return frozenset()
    last = {id(value) for levels in _class_heads(model.model[-1]) for level in levels for value in _last(level)}
    return frozenset(name for name, value in model.named_parameters() if id(value) in last)


def _last(level: Any) -> Iterator[Any]:
    yield from level[-1].parameters()


def _class_heads(head: Any) -> Iterator[nn.ModuleList]:
    yield head.cv3
    if (second := getattr(head, "one2one_cv3", None)) is not None:
        yield second


def _transferred(
    old: nn.Conv2d, indices: Sequence[Sequence[int]], prior: float, generator: torch.Generator
) -> nn.Conv2d:
    new = nn.Conv2d(old.in_channels, len(indices), 1)
    if old.bias is None or new.bias is None:
        raise ValueError("a class head without bias is not one of Ultralytics' detection heads")
    with torch.no_grad():
        for row, sources in enumerate(indices):
            if sources:
                new.weight[row] = old.weight[list(sources)].mean(dim=0)
                new.bias[row] = old.bias[list(sources)].mean()
            else:
                new.weight[row].normal_(0.0, 0.01, generator=generator)
                new.bias[row] = prior
    return new.to(old.weight.device)


def transfer_table(rows: Sequence[HeadRow]) -> list[str]:
    """Return the rows as lines of a table for people."""
    width = max((len(row.target) for row in rows), default=0)
    warm = sum(bool(row.sources) for row in rows)
    lines = [f"Head transfer: {warm} of {len(rows)} class rows start from the checkpoint's"]
    for row in rows:
        origin = " + ".join(row.sources) if row.sources else "(untrained)"
        mean = ", mean" if len(row.sources) > 1 else ""
        lines.append(f"  {row.target:<{width}}  <-  {origin}  [{row.kind}{mean}]")
    return lines
