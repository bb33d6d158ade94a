"""Near-identical pictures, and splits that keep what belongs together on one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.cores import usable_cores
from drivetl.data.pictures import decode_small_grey
from drivetl.progress import Progress, silent, tracked

__all__ = [
    "NEAR_IDENTICAL_BITS",
    "content_groups",
    "hash_pictures",
    "joined",
    "near_identical_across",
    "picture_hash",
    "take_groups",
]

# Pictures whose hashes differ in at most this many of 128 bits count as near-identical. Of the 14,535 pairs among 171
# fog pictures of DAWN, whose 31 near-identical pairs are known, 5 finds all 31 with one false alarm; 4 misses two, and
# 8 has six false alarms. tests/data/test_grouping.py measures it again.
NEAR_IDENTICAL_BITS = 5

_BLOCK = 2048


def picture_hash(path: Path) -> npt.NDArray[np.bool_]:
    """Return 128 bits that change little when a picture is resized, re-encoded or slightly brightened.

    The difference hash of N. Krawetz ("Kind of like that", 2013), along rows and along columns: the picture is
    averaged down to 9 x 9 grey cells, and each bit says whether a cell is brighter than its neighbour.

    Raises:
        PictureError: the picture cannot be decoded.
    """
    cells = cv2.resize(decode_small_grey(path), (9, 9), interpolation=cv2.INTER_AREA)
    along_rows = cells[:8, 1:] > cells[:8, :-1]
    along_columns = cells[1:, :8] > cells[:-1, :8]
    return np.concatenate([along_rows.ravel(), along_columns.ravel()])


def hash_pictures(paths: Sequence[Path], progress: Progress = silent) -> npt.NDArray[np.bool_]:
    """Return the hashes of many pictures as ``(n, 128)``, decoded on all cores.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        hashes = pool.map(picture_hash, paths)
        rows = list(tracked(hashes, "comparing pictures", len(paths), progress))
    return np.array(rows, bool).reshape(len(paths), 128)


def near_identical_across(
    hashes: npt.NDArray[np.bool_], sides: npt.NDArray[np.integer[Any]], max_bits: int = NEAR_IDENTICAL_BITS
) -> Iterator[tuple[int, int, int]]:
    """Yield ``(i, j, differing bits)`` with ``i < j`` of near-identical pictures on two sides of a split.

    No picture is named with two of the same other side: a standing camera, whose pictures are all alike, gives as many
    pairs as it has pictures and not millions.

    Args:
        hashes: of the pictures, ``(n, 128)``.
        sides: the side of each picture, integers ``(n,)`` from 0.
        max_bits: in which near-identical pictures differ.
    """
    told = np.zeros((len(hashes), int(sides.max(initial=-1)) + 1), bool)
    for top, left, distance in _distances(hashes):
        here, there = sides[top : top + _BLOCK], sides[left : left + _BLOCK]
        near = (distance <= max_bits) & (here[:, None] != there[None, :])
        for row in np.flatnonzero(near.any(axis=1)):
            i = int(top + row)
            columns = np.flatnonzero(near[row])
            columns = columns[(left + columns > i) & ~told[left + columns, sides[i]]]
            met, first = np.unique(there[columns], return_index=True)
            for side, column in zip(met, columns[first], strict=True):
                if not told[i, side]:
                    told[i, side] = told[left + column, sides[i]] = True
                    yield i, int(left + column), int(distance[row, column])


def _distances(hashes: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
    """Yield how many bits differ between the hashes from ``top`` and those from ``left`` on, for ``top <= left``.

    Exact, in blocks: with bits as +1 and -1 the Hamming distance is ``(128 - dot product) / 2``, which BLAS does
    fast enough for 10,000 pictures to take about a second; memory is one block of 2048 x 2048.
    """
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    bits = np.float32(hashes.shape[1])
    for top in range(0, len(signs), _BLOCK):
        for left in range(top, len(signs), _BLOCK):
            yield top, left, (bits - signs[top : top + _BLOCK] @ signs[left : left + _BLOCK].T) / 2


def joined(first_of: Sequence[int], hashes: npt.NDArray[np.bool_], max_bits: int = NEAR_IDENTICAL_BITS) -> list[int]:
    """Return for each picture the first one that it is connected with, through its group or near-identical pictures.

    A standing camera makes millions of near-identical pairs, so that they are looked at by rows, and only those
    that join something are followed.

    Args:
        first_of: for each picture the first one of its group.
        hashes: of the pictures, ``(n, 128)``.
        max_bits: in which near-identical pictures differ.
    """
    label = np.asarray(first_of, np.int64)
    for top, left, distance in _distances(hashes):
        near = distance <= max_bits
        for row in np.flatnonzero(near.any(axis=1)):
            met = np.unique(label[left + np.flatnonzero(near[row])])
            for other in met[met != label[top + row]]:
                low, high = sorted((int(label[top + row]), int(other)))
                label[label == high] = low
    return [int(number) for number in label]


def content_groups(paths: Sequence[Path], groups: Sequence[str], progress: Progress = silent) -> list[str]:
    """Return a group for each picture: pictures that share a group, or are near-identical, come out together.

    The joint group bears the first name among those it joins.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    first: dict[str, int] = {}
    by_name = [first.setdefault(group, index) for index, group in enumerate(groups)]
    return [groups[index] for index in joined(by_name, hash_pictures(paths, progress))]


def take_groups(
    groups: Sequence[str],
    class_counts: Sequence[Mapping[str, int]],
    fraction: float,
    rng: np.random.Generator,
) -> set[str]:
    """Choose whole groups that hold about ``fraction`` of the pictures.

    Groups are visited in a random order. One is taken when it still fits and when every class keeps examples on the
    side that stays: about ``1 - 1.5 x fraction`` of them, rounded to whole boxes (of two boxes one may go at a fraction
    of 0.2), and never none. So rare classes stay, softly.

    Args:
        groups: the group of each picture.
        class_counts: boxes per class of each picture.
        fraction: share of the pictures to take, 0 to 1.
        rng: decides the order; the same generator state and input give the same choice.
    """
    sizes = Counter(groups)
    per_group: dict[str, Counter[str]] = {group: Counter() for group in sizes}
    for group, counts in zip(groups, class_counts, strict=True):
        per_group[group].update(counts)
    total = sum(per_group.values(), Counter())
    allowed = {name: min(count - 1, int(1.5 * fraction * count + 0.5)) for name, count in total.items()}
    wanted = round(fraction * len(groups))
    taken: set[str] = set()
    names = sorted(sizes)
    for index in rng.permutation(len(names)):
        group = names[index]
        if sizes[group] <= wanted and all(count <= allowed[name] for name, count in per_group[group].items()):
            taken.add(group)
            wanted -= sizes[group]
            for name, count in per_group[group].items():
                allowed[name] -= count
    return taken
