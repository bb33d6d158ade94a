from __future__ import annotations

import numpy as np
import pytest

from drivetl.video.smoothing import Smoother

ONE = np.array([7], np.int64)


def smoothed(boxes: np.ndarray) -> np.ndarray:
    smoother = Smoother()
    return np.array([smoother(ONE, box[None].astype(np.float32), index)[0] for index, box in enumerate(boxes)])


def still(frames: int) -> np.ndarray:
    return np.tile(np.array([100.0, 100, 200, 180]), (frames, 1))


def test_jitter_of_a_standing_object_is_damped() -> None:
    rng = np.random.default_rng(0)
    jitter = rng.normal(0, 1.0, (400, 4))
    left = smoothed(still(400) + jitter)[20:] - still(380)
    step = np.abs(np.diff(left, axis=0)).mean() / np.abs(np.diff(jitter, axis=0)).mean()
    assert step < 0.45  # from frame to frame, which is what the eye sees
    assert left.std() < 0.75
    assert np.abs(left.mean(axis=0)).max() < 0.2


@pytest.mark.parametrize("speed_px", [0.5, 2.0, 8.0, 30.0])
def test_steady_motion_has_no_lag(speed_px: float) -> None:
    moving = still(60) + speed_px * np.arange(60)[:, None]
    assert np.abs(smoothed(moving) - moving)[25:].max() < 0.15
    assert np.abs(smoothed(moving) - moving).max() < 1.5  # of a box of 128 px, while it learns the speed


def test_a_moving_average_would_lag_where_this_does_not() -> None:
    moving = still(60) + 4.0 * np.arange(60)[:, None]
    average = np.array([moving[max(0, i - 4) : i + 1].mean(axis=0) for i in range(60)])
    assert np.abs(average - moving)[25:].mean() > 7
    assert np.abs(smoothed(moving) - moving)[25:].mean() < 0.15


def test_a_jump_is_followed_at_once() -> None:
    jumping = still(40)
    jumping[20:] += 60
    assert np.abs(smoothed(jumping) - jumping)[20].max() < 0.5
    assert np.abs(smoothed(jumping) - jumping)[26:].max() < 3


def test_braking_is_followed() -> None:
    # 6 px a frame, then braking to a halt within 12 frames.
    speed = np.concatenate([np.full(30, 6.0), np.linspace(6, 0, 12), np.zeros(20)])
    moving = still(62) + np.cumsum(speed)[:, None]
    assert np.abs(smoothed(moving) - moving).max() < 2


def test_tracks_do_not_mix_and_untracked_boxes_stay() -> None:
    smoother = Smoother()
    ids = np.array([3, -1, 5], np.int64)
    boxes = np.array([[0, 0, 10, 10], [1, 2, 3, 4], [50, 50, 90, 90]], np.float32)
    for frame in range(5):
        out = smoother(ids, boxes, frame)
    assert (out == boxes).all()


def test_a_track_that_was_away_begins_anew_and_old_ones_are_forgotten() -> None:
    smoother = Smoother()
    box = np.array([[0, 0, 10, 10]], np.float32)
    for frame in range(10):
        smoother(ONE, box, frame)
    assert (smoother(ONE, box + 100, 20) == box + 100).all()
    smoother.forget(21)
    assert smoother._states == {}
