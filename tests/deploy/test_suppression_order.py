"""Two boxes whose scores are all but equal may suppress one another in either order; a real fault is never excused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drivetl.deploy import Tolerances
from drivetl.deploy.matching import Agreement
from drivetl.deploy.tally import Tally
from drivetl.runtime import Contract, Geometry, Letterbox

CONTRACT = Contract("images", (640, 640), "output0", (1, 6, 8), ("car", "bus"), Letterbox((640, 640)))
# Left, top, right, bottom, score, class: two buses in one place, overlap 0.82, and their neighbours.
FIRST, SECOND = (100.0, 100.0, 200.0, 200.0, 0.35566497, 1.0), (110.0, 100.0, 210.0, 200.0, 0.35566366, 1.0)
# Overlaps the first by 0.82 and the second by 0.67: it goes where the first stays.
BESIDE = (90.0, 100.0, 190.0, 200.0, 0.2, 1.0)
FAR = (400.0, 400.0, 500.0, 500.0, 0.9, 0.0)


def _raw(*boxes: tuple[float, ...]) -> Any:
    raw = np.zeros((1, 6, 8), np.float32)
    for index, (left, top, right, bottom, score, class_id) in enumerate(boxes):
        raw[0, :4, index] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        raw[0, 4 + int(class_id), index] = score
    return raw


def _scored(box: tuple[float, ...], score: float) -> tuple[float, ...]:
    return (*box[:4], score, box[5])


def _agreement(reference: Any, tested: Any, decoding: str = "cxcywh_scores") -> Agreement:
    geometry = Geometry((640, 640), (640, 640), (640, 640), (0, 0), 1.0)
    picture = np.zeros((640, 640, 3), np.uint8)
    detector: Any = SimpleNamespace(
        contract=replace(CONTRACT, decoding=decoding),
        preprocess=lambda image: (np.zeros((1, 3, 640, 640), np.float32), geometry),
        infer=lambda tensor: tested,
    )
    tally = Tally(detector, lambda tensor: reference, lambda image, size_hw: image, Tolerances())
    tally._compare_letterbox = lambda *_: None  # type: ignore[method-assign]
    tally.add("a.jpg", picture)
    return tally.agreement


REFERENCE = _raw(FIRST, SECOND, BESIDE, FAR)
CHANGED_PLACES = (_scored(FIRST, SECOND[4]), _scored(SECOND, FIRST[4]), BESIDE, FAR)


def test_a_tie_that_falls_the_other_way_is_excused_with_what_follows_from_it() -> None:
    """The second stays instead of the first, and so does the one beside it, which only the first would suppress."""
    assert _agreement(REFERENCE, _raw(*CHANGED_PLACES)) == Agreement(matched=1, excused=3)
    assert _agreement(_raw(*CHANGED_PLACES), REFERENCE) == Agreement(matched=1, excused=3)


def test_overlap_at_the_edge_is_that_of_the_whole_boxes() -> None:
    """Suppression sees what sticks out of the picture: clipped, these two overlap by 0.67 and whole by 0.73."""

    def box(left: float, score: float) -> tuple[float, ...]:
        return (left, 100.0, left + 160.0, 200.0, score, 1.0)

    first, second = (-110.0, FIRST[4]), (-85.0, SECOND[4])
    reference = _raw(box(*first), box(*second), FAR)
    tested = _raw(box(first[0], second[1]), box(second[0], first[1]), FAR)
    assert _agreement(reference, tested) == Agreement(matched=1, excused=2)


def test_a_tie_inside_a_graph_that_suppresses_is_excused_too() -> None:
    rows = np.zeros((1, 8, 6), np.float32)
    for index, box in enumerate((CHANGED_PLACES[3], CHANGED_PLACES[1], CHANGED_PLACES[2])):
        rows[0, index] = box
    assert _agreement(REFERENCE, rows, "xyxy_nms") == Agreement(matched=1, excused=3)
    rows[0, 1, :4] += 4  # not a box of the weights any more
    assert _agreement(REFERENCE, rows, "xyxy_nms").missed >= 2


@pytest.mark.parametrize(
    "tested",
    [
        (_scored(FIRST, 0.354), SECOND, BESIDE, FAR),  # the scores differ by more than rounding gives
        (_scored(FIRST, 0.3), SECOND, BESIDE, FAR),
        ((*FIRST[:5], 0.0), SECOND, BESIDE, FAR),  # another class
        (tuple(np.add(FIRST, (4, 0, 4, 0, -0.0001, 0))), SECOND, BESIDE, FAR),  # moved
        (),  # nothing is found at all
        (FIRST, FAR),  # one box less, which was suppressed anyway, and one that was not
        (SECOND, BESIDE, FAR),  # the winner is not computed at all
    ],
)
def test_what_is_no_tie_is_not_excused(tested: tuple[tuple[float, ...], ...]) -> None:
    found = _agreement(REFERENCE, _raw(*tested))
    assert found.excused == 0
    assert found.missed or found == Agreement(matched=2)


def test_without_a_tie_suppression_passes_nothing_on() -> None:
    """The bundle loses the winner of a clear order; neither its neighbour nor itself is excused."""
    strong = _scored(FIRST, 0.8)
    found = _agreement(_raw(strong, SECOND, BESIDE, FAR), _raw(SECOND, BESIDE, FAR))
    assert found == Agreement(matched=1, missed=3)
