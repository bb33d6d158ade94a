"""Which frames become stills: the best ones, far enough apart, and as many as asked for where there are so many."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.runtime import Detections, Detector
from drivetl.video import Model, Outputs, VideoSettings, run_video
from drivetl.video.lane import Job, View
from drivetl.video.stills import Stills
from drivetl.video.tracking import untracked

MakeVideo = Callable[..., Path]


def job(index: int, confidence: float) -> Job:
    found = Detections(np.array([[0, 0, 9, 9]], np.float32), np.array([confidence], np.float32), np.zeros(1, np.int64))
    return Job(index, np.full((16, 16, 3), index % 256, np.uint8), 0.0, [View(tracked=untracked(found))])


def kept(folder: Path, count: int, confidences: Sequence[float], fps: float = 25.0) -> list[int]:
    """Return the numbers of the frames that are written, and hold the memory and the pictures to them."""
    with Stills(folder, count, fps, overwrite=False) as stills:
        for index, confidence in enumerate(confidences):
            stills.consider(job(index, confidence))
            assert len(stills._kept) <= 5 * count
    frames = [int(path.stem.removeprefix("frame-")) for path in stills.written]
    assert all(later - earlier >= fps for earlier, later in itertools.pairwise(frames))
    for frame, path in zip(frames, stills.written, strict=True):
        assert abs(float(cv2.imread(str(path)).mean()) - frame % 256) < 3
    assert bool(stills.notes) == (len(frames) < count)
    return frames


@pytest.mark.parametrize("count", [1, 6, 28])
@pytest.mark.parametrize("falling", [False, True])
def test_interest_that_rises_for_half_a_minute_gives_as_many_as_asked(
    count: int, falling: bool, tmp_path: Path
) -> None:
    confidences = np.linspace(0.1, 0.9, 750)[:: -1 if falling else 1].tolist()
    frames = kept(tmp_path / "stills", count, confidences)
    assert len(frames) == count and (0 if falling else 749) in frames


def test_of_a_long_video_the_best_are_those_that_all_frames_would_give(tmp_path: Path) -> None:
    confidences = np.random.default_rng(0).uniform(0.1, 0.2, 2000)
    peaks = [70, 400, 410, 1200, 1990]
    confidences[peaks] = [0.8, 0.7, 0.9, 0.6, 0.5]
    assert kept(tmp_path / "stills", 4, confidences.tolist()) == [70, 410, 1200, 1990]


def test_fewer_than_asked_are_a_note(make_video: MakeVideo, detector: Detector, tmp_path: Path) -> None:
    video = make_video("in.mp4", [0, 100, 200], size_wh=(256, 128))
    settings = VideoSettings(track=False, stills=2)
    result = run_video(str(video), [Model(detector)], Outputs(stills=tmp_path / "stills"), settings)
    assert len(result.stills) == 1
    assert "1 of 2 stills: all other frames that stand out lie within 1 s of these" in result.notes
