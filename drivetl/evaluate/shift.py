"""How far apart two datasets are for a detector, and what differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import DatasetError
from drivetl.evaluate.description import Described
from drivetl.evaluate.distances import (
    PERMUTATIONS,
    frechet,
    kernel_of,
    mmd_test,
    nearest,
    reduced,
    relabelled,
    two_means,
)
from drivetl.evaluate.picture_figures import BOX_FIGURES, FIGURES

__all__ = ["FEWEST", "Difference", "Shift", "domain_shift"]

FEWEST = 8
_FARTHEST = 20
_ALPHA = 0.05
# A difference that is sure but smaller than this many standard deviations is not worth a name.
_EFFECT = 0.5


@dataclass(frozen=True, slots=True)
class Difference:
    """One plain figure of both datasets.

    Attributes:
        name: see `drivetl.evaluate.picture_figures.FIGURES`.
        source, target: its mean.
        effect: target minus source in standard deviations within a dataset.
        p_value: of "no difference", by permutation of groups, times the number of compared figures (Bonferroni), at
            most 1.
        named: sure and large enough to be named.
    """

    name: str
    source: float
    target: float
    effect: float
    p_value: float
    named: bool


@dataclass(frozen=True, slots=True)
class Shift:
    """The distance between a source and a target.

    Attributes:
        pictures, groups: of source and target.
        frechet: squared Fréchet distance in the leading components of the detector's features.
        mmd2: squared maximum mean discrepancy in the same components.
        p_value: of "both are from one source", by permutation of groups.
        found: whether that is below 0.05.
        differences: of the plain figures, the largest first.
        farthest: the target pictures farthest from the source, with their distance.
        notes: sentences about what could not be compared.
    """

    pictures: tuple[int, int]
    groups: tuple[int, int]
    frechet: float
    mmd2: float
    p_value: float
    found: bool
    differences: tuple[Difference, ...]
    farthest: tuple[tuple[str, float], ...]
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "pictures": dict(zip(("source", "target"), self.pictures, strict=True)),
            "groups": dict(zip(("source", "target"), self.groups, strict=True)),
            "frechet": self.frechet,
            "mmd2": self.mmd2,
            "p_value": self.p_value,
            "found": self.found,
            "permutations": PERMUTATIONS,
            "named": [entry.name for entry in self.differences if entry.named],
            "differences": [{**asdict(entry), "what": FIGURES[entry.name]} for entry in self.differences],
            "farthest": [{"picture": path, "distance": distance} for path, distance in self.farthest],
            "notes": list(self.notes),
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """Say what was found."""
        if not self.found:
            return f"No shift found (p {self.p_value:.3f}): these pictures could be from one source."
        named = [
            f"{'more' if entry.effect > 0 else 'less'} {entry.name} ({entry.source:.2f} to {entry.target:.2f})"
            for entry in self.differences
            if entry.named
        ]
        what = ", ".join(named) or "nothing that the plain figures show"
        return f"The target differs from the source (p {self.p_value:.3f}): {what}."


def domain_shift(source: Described, target: Described, *, seed: int = 0) -> Shift:
    """Compare two sets of pictures.

    Args:
        source: what the model knows.
        target: where it is to work.
        seed: of the permutations.

    Raises:
        DatasetError: a side has fewer than 8 pictures, or fewer than 4 groups.
    """
    for name, side in (("source", source), ("target", target)):
        if len(side.paths) < FEWEST or len(set(side.groups)) < FEWEST // 2:
            raise DatasetError(
                f"the {name} has {len(side.paths)} pictures in {len(set(side.groups))} groups; a shift needs "
                f"{FEWEST} pictures in {FEWEST // 2} groups at least on each side"
            )
    first = np.arange(len(source.paths) + len(target.paths)) < len(source.paths)
    groups = [*(f"a/{group}" for group in source.groups), *(f"b/{group}" for group in target.groups)]
    labels = relabelled(groups, first, np.random.default_rng(seed))
    components = reduced(np.concatenate([source.features, target.features]))
    mmd2, p_value = mmd_test(kernel_of(components), first, labels)
    differences, notes = _differences(source, target, first, labels)
    away = nearest(components[~first], components[first])
    order = np.argsort(-away, kind="stable")[:_FARTHEST]
    return Shift(
        (len(source.paths), len(target.paths)),
        (len(set(source.groups)), len(set(target.groups))),
        frechet(components[first], components[~first]),
        mmd2,
        p_value,
        p_value < _ALPHA,
        tuple(sorted(differences, key=lambda entry: -abs(entry.effect))),
        tuple((str(target.paths[index]), float(away[index])) for index in order.tolist()),
        notes,
    )


def _differences(
    source: Described, target: Described, first: NDArray[np.bool_], labels: NDArray[np.bool_]
) -> tuple[list[Difference], tuple[str, ...]]:
    """Compare the plain figures; those of boxes only where both sides have labels, and say where they have not."""
    bare = [name for name, side in (("source", source), ("target", target)) if _unlabelled(side)]
    names = [name for name in FIGURES if not bare or name not in BOX_FIGURES]
    figures = np.concatenate([source.figures, target.figures])
    differences = []
    for name in names:
        known, there, effect, chance = two_means(figures[:, list(FIGURES).index(name)], first, labels)
        chance = min(1.0, chance * len(names))
        named = chance < _ALPHA and abs(effect) >= _EFFECT
        differences.append(Difference(name, known, there, effect, chance, named))
    if not bare:
        return differences, ()
    who = "neither side has" if len(bare) == 2 else f"the {bare[0]} has no"
    return differences, (f"Boxes are not compared: {who} labels.",)


def _unlabelled(side: Described) -> bool:
    """Whether no picture of a side has a box."""
    return bool(np.isnan(side.figures[:, list(FIGURES).index("box size")]).all())
