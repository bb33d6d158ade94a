from __future__ import annotations

import numpy as np
import pytest

from drivetl.runtime import Detections
from drivetl.video.draw import class_colour_bgr
from drivetl.video.tails import Tails
from drivetl.video.tracking import Tracked

NAMES = ("car", "person")


def at(left: float, number: int = 4) -> Tracked:
    boxes = np.array([[left, 20, left + 20, 60]], np.float32)
    found = Detections(boxes, np.array([0.9], np.float32), np.array([0], np.int64))
    return Tracked(found, np.array([number], np.int64), boxes)


def drawn(tails: Tails) -> np.ndarray:
    frame = np.zeros((100, 400, 3), np.uint8)
    tails.draw(frame, NAMES)
    return frame


def test_a_tail_lies_where_the_feet_were_and_fades() -> None:
    tails = Tails(25.0)
    for index in range(30):
        tails.add(at(10 + 6 * index), index / 25)
    frame = drawn(tails)
    rows, columns = np.nonzero(frame.any(axis=2))
    assert abs(rows.mean() - 60) < 1 and columns.min() < 25 and abs(columns.max() - 194) < 4
    assert frame[60, 30].sum() < 0.6 * frame[60, 185].sum()
    assert np.abs(frame[60, 190].astype(int) - class_colour_bgr("car")).max() < 40


def test_tails_end_after_a_second_and_a_half_and_with_their_object() -> None:
    tails = Tails(25.0)
    for index in range(100):
        tails.add(at(10 + 3 * index), index / 25)
    columns = np.nonzero(drawn(tails).any(axis=(0, 2)))[0]
    assert columns.max() - columns.min() == pytest.approx(3 * 25 * 1.5, abs=8)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    tails.add(Tracked(nothing, np.zeros(0, np.int64), np.zeros((0, 4), np.float32)), 6.0)
    assert not drawn(tails).any() and tails._points == {}


def test_the_tail_of_an_object_that_left_goes_at_once_and_comes_back_with_it() -> None:
    tails = Tails(25.0)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    empty = Tracked(nothing, np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    for index in range(25):
        tails.add(at(10 + 3 * index), index / 25)
    tails.add(empty, 1.1)
    assert drawn(tails).any()  # a detector may miss a frame or two
    tails.add(empty, 1.3)
    assert not drawn(tails).any()
    tails.add(at(100), 1.4)
    assert drawn(tails)[:, :90].any()


def test_untracked_objects_have_none_and_fast_videos_no_more_points() -> None:
    tails = Tails(1000.0)
    for index in range(2000):
        tails.add(at(10 + 0.1 * index), index / 1000)
        tails.add(at(10, number=-1), index / 1000)
    assert set(tails._points) == {4} and len(tails._points[4]) <= 70


def test_far_outside_the_frame() -> None:
    tails = Tails(25.0)
    for index in range(5):
        tails.add(at(1e9 * index), index / 25)
    drawn(tails)
