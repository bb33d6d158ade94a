"""Runs on cameras and streams: how old frames are, what is counted, and how they end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.errors import VideoError
from drivetl.runtime import Detector
from drivetl.video import Around, Model, Outputs, VideoSettings, run_video
from drivetl.video.live import LiveSource, Patience
from drivetl.video.source_info import SourceInfo
from drivetl.video.weathered import VideoWeather
from drivetl.video.writer import VideoOutput

Grey = Callable[..., NDArray[np.uint8]]
INFO = SourceInfo("camera", "camera 0", 30.0, None, live=True)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class SteadyCamera:
    """30 frames a second for a while, whether anybody takes them or not."""

    def __init__(self, seconds: float, image_bgr: NDArray[np.uint8]) -> None:
        self._image, self._number, self._count = image_bgr, 0, round(30 * seconds)
        self._begun_s = 0.0

    def read(self) -> NDArray[np.uint8] | None:
        self._begun_s = self._begun_s or time.perf_counter()
        self._number += 1
        if self._number > self._count:
            return None
        time.sleep(max(0.0, self._begun_s + self._number / 30 - time.perf_counter()))
        return self._image.copy()

    def close(self) -> None:
        pass


class LateCamera:
    """A camera that gives three frames at once and then breaks off."""

    def __init__(self, image_bgr: NDArray[np.uint8]) -> None:
        self._image, self._left = image_bgr, 3

    def read(self) -> NDArray[np.uint8] | None:
        self._left -= 1
        return self._image.copy() if self._left >= 0 else None

    def close(self) -> None:
        pass


@pytest.mark.parametrize("stopped", [False, True])
def test_a_live_source_that_hands_on_no_frame(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grey: Grey, stopped: bool
) -> None:
    """The frames come while the model warms up, which takes longer than they may be old."""
    detector = Detector(bundle, threads=1)
    ended = threading.Event()
    monkeypatch.setattr(
        "drivetl.video.lane.Lane.warm_up", lambda *_: (time.sleep(0.6), ended.set() if stopped else None)
    )
    camera = LateCamera(grey(200, (256, 128)))
    source = LiveSource(
        INFO, camera, lambda: None, max_age_ms=300, patience=Patience(give_up_s=0), stopped=ended.is_set
    )
    monkeypatch.setattr("drivetl.video.pipeline.open_source", lambda *_, **__: source)
    around = Around(ended.is_set)
    kind, message = (KeyboardInterrupt, None) if stopped else (VideoError, "'camera 0' delivered 3 frames, and none")
    with pytest.raises(kind, match=message):
        run_video("0", [Model(detector)], Outputs(tmp_path / "out.mp4"), None, around)
    assert list(tmp_path.iterdir()) == []


def test_a_live_source_that_is_faster_than_the_model(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grey: Grey
) -> None:
    """30 Hz and a model of 100 ms: the shown frame is about one inference old, and what is not shown is counted.

    The aim is one inference and 50 ms, which an idle machine keeps (31 to 43 ms were measured). Other work may delay
    any thread by more; a single frame that waits between two stages adds another 100.
    """
    detector = Detector(bundle, threads=1)
    infer = detector.infer

    def slow(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(0.1)
        return infer(tensor)

    detector.infer = slow  # type: ignore[method-assign]
    camera = SteadyCamera(3.0, grey(200, (256, 128)))
    source = LiveSource(INFO, camera, lambda: None, patience=Patience(give_up_s=0))
    monkeypatch.setattr("drivetl.video.pipeline.open_source", lambda *_, **__: source)
    result = run_video("0", [Model(detector)], Outputs(tmp_path / "out.mp4", tmp_path / "a.jsonl"))
    assert result.frames_in == 90 == result.frames_out + result.dropped
    assert 5 < result.frames_out < 31
    assert result.latency_ms["age"]["p50"] <= result.latency_ms["inference"]["p50"] + 150
    assert result.live is not None and result.live["reconnects"] == 0
    assert result.notes[0] == "camera 0 stopped delivering after 90 frames"
    # The written video lasts as long as reality did, although most frames are not in it.
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    shown_s = [capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 for _ in iter(lambda: capture.read()[0], False)]
    assert len(shown_s) == result.frames_out and 1.5 < shown_s[-1] - shown_s[0] < 4.5
    assert np.median(np.diff(shown_s)) > 0.05
    # Both begin with the first frame that was delivered; that of the warm-up came before it and is in neither.
    written_s = [line["time_s"] for line in lines(tmp_path / "a.jsonl")]
    assert written_s[0] == 0 and np.abs(np.array(written_s) - shown_s).max() < 0.002


def test_stopping_a_live_run_that_waits(bundle: Path, monkeypatch: pytest.MonkeyPatch, grey: Grey) -> None:
    class Hanging(SteadyCamera):
        def read(self) -> NDArray[np.uint8] | None:
            frame = super().read()
            if frame is None:
                time.sleep(3)
            return frame

    stop = threading.Event()
    camera = Hanging(0.5, grey(200, (256, 128)))
    source = LiveSource(INFO, camera, lambda: None, stopped=stop.is_set)
    monkeypatch.setattr("drivetl.video.pipeline.open_source", lambda *_, **__: source)
    threading.Timer(1.0, stop.set).start()
    begun = time.perf_counter()
    result = run_video("0", [Model(Detector(bundle, threads=1))], None, None, Around(stopped=stop.is_set))
    assert result.interrupted and time.perf_counter() - begun < 2.5


def test_behind_a_slow_writer_no_frame_grows_old(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grey: Grey
) -> None:
    """30 Hz and 300 ms to write a frame: it sets out so that it is ready when the writer is.

    Where each stage takes what it can get, one frame waits in every queue and in front of it, and each is shown four
    writes late.
    """
    write = VideoOutput.write

    def slow(self: VideoOutput, image_bgr: NDArray[np.uint8], time_s: float | None = None) -> None:
        time.sleep(0.3)
        write(self, image_bgr, time_s)

    monkeypatch.setattr(VideoOutput, "write", slow)
    source = LiveSource(INFO, SteadyCamera(60.0, grey(200, (256, 128))), lambda: None)
    monkeypatch.setattr("drivetl.video.pipeline.open_source", lambda *_, **__: source)
    outputs, settings = Outputs(tmp_path / "out.mp4"), VideoSettings(limit=12)
    result = run_video("0", [Model(Detector(bundle, threads=1))], outputs, settings)
    assert result.frames_out == 12 == result.frames_in - result.dropped and result.dropped > 50
    assert result.latency_ms["age"]["p50"] < result.latency_ms["write"]["p50"]


def test_what_a_camera_gives_after_the_end_is_not_counted(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grey: Grey
) -> None:
    camera = SteadyCamera(60.0, grey(200, (256, 128)))
    finish, given = VideoOutput._finish, []

    def slow(self: VideoOutput, well: bool) -> Any:
        given.append(camera._number)
        time.sleep(0.5)
        given.append(camera._number)
        return finish(self, well)

    monkeypatch.setattr(VideoOutput, "_finish", slow)
    source = LiveSource(INFO, camera, lambda: None, max_age_ms=1000)
    monkeypatch.setattr("drivetl.video.pipeline.open_source", lambda *_, **__: source)
    settings = VideoSettings(limit=5)
    result = run_video("0", [Model(Detector(bundle, threads=1))], Outputs(tmp_path / "out.mp4"), settings)
    assert result.frames_out == 5 == result.frames_in - result.dropped
    assert result.frames_in <= given[0]


def test_weather_over_a_camera_moves_as_time_passes(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grey: Grey
) -> None:
    """And not by a thirtieth of a second for each frame that a slow model takes."""
    times_s: list[float] = []

    def noted(self: VideoWeather, image_bgr: NDArray[np.uint8], time_s: float | None = None) -> NDArray[np.uint8]:
        assert time_s is not None
        times_s.append(time_s)
        time.sleep(0.1)
        return image_bgr

    monkeypatch.setattr(VideoWeather, "__call__", noted)
    source = LiveSource(INFO, SteadyCamera(60.0, grey(200, (256, 128))), lambda: None, max_age_ms=1000)
    monkeypatch.setattr("drivetl.video.pipeline.open_source", lambda *_, **__: source)
    settings = VideoSettings(limit=8, weather="rain:3")
    run_video("0", [Model(Detector(bundle, threads=1))], Outputs(detections=tmp_path / "a.jsonl"), settings)
    assert times_s == pytest.approx([line["time_s"] for line in lines(tmp_path / "a.jsonl")], abs=1e-6)
    assert times_s[0] == 0 and np.diff(times_s).min() > 0.05
