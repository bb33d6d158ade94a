from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.errors import VideoError
from drivetl.video import LiveOptions, open_source
from drivetl.video.live import LiveSource, Patience
from drivetl.video.refetched import Refetched
from drivetl.video.source_info import SourceInfo

INFO = SourceInfo("camera", "camera 0", 100.0, None, live=True)
HURRIED = Patience(silence_s=0.15, first_wait_s=0.02, longest_wait_s=0.05, give_up_s=0.6)


def picture(level: int) -> NDArray[np.uint8]:
    return np.full((4, 6, 3), level, np.uint8)


class Camera:
    """A camera that follows a plan: a number is a frame of that level, a float a pause in seconds, None a break."""

    def __init__(self, *plan: int | float | None, interval_s: float = 0.01) -> None:
        self.plan = list(plan)
        self.interval_s = interval_s
        self.closed = 0

    def read(self) -> NDArray[np.uint8] | None:
        while self.plan:
            step = self.plan.pop(0)
            if isinstance(step, float):
                time.sleep(step)
                continue
            if step is None:
                return None
            time.sleep(self.interval_s)
            return picture(step)
        return None

    def close(self) -> None:
        self.closed += 1


def collect(source: LiveSource, work_s: float = 0.0) -> list[int]:
    """The levels of the frames that a consumer gets that needs ``work_s`` for each."""
    levels = []
    for frame in source.frames():
        levels.append(int(frame[0, 0, 0]))
        time.sleep(work_s)
    source.close()
    return levels


def test_a_fast_consumer_gets_the_frames() -> None:
    source = LiveSource(INFO, Camera(*range(20), interval_s=0.02), lambda: None, patience=Patience(give_up_s=0))
    taken = collect(source)
    # On a busy machine the consumer may be held up for longer than a frame; what it misses is counted.
    assert taken == sorted(set(taken)) and len(taken) + source.dropped == 20
    assert len(taken) >= 15 and taken[-1] == 19 and source.reconnects == 0


def test_a_slow_consumer_gets_the_newest_and_every_other_is_counted() -> None:
    source = LiveSource(INFO, Camera(*range(60)), lambda: None, patience=Patience(give_up_s=0), max_age_ms=1000)
    taken, ages_ms = [], []
    for frame in source.frames():
        ages_ms.append(1000 * (time.perf_counter() - source.captured_s))
        taken.append(int(frame[0, 0, 0]))
        time.sleep(0.1)
    assert taken == sorted(set(taken)) and 4 <= len(taken) <= 10
    assert source.dropped == 60 - len(taken)
    # Frames come every 10 ms and wait in one place: what is taken is hardly older than that, however slow the consumer.
    # In a queue they would be half a second old.
    assert np.median(ages_ms[:-1]) < 100
    assert taken[-1] == 59  # the last frame is not lost


def test_a_frame_that_lay_too_long_is_dropped_and_not_shown() -> None:
    # After the burst comes nothing for a while: the newest frame of the burst is old when the consumer is ready.
    camera = Camera(0, 1, 2, 3, 0.4, 7, interval_s=0.001)
    source = LiveSource(INFO, camera, lambda: None, patience=Patience(give_up_s=0), max_age_ms=50)
    taken = collect(source, work_s=0.2)
    # Which of the burst comes first is a matter of when the threads start; none of the others is shown later.
    assert taken[0] <= 3 and taken[1:] == [7]
    assert source.dropped == 5 - len(taken)


def test_unplugged_and_plugged_in_again() -> None:
    said: list[str] = []
    cameras = iter([None, None, Camera(), Camera(100, 101, 102)])
    first = Camera(1, 2, 3, None)
    source = LiveSource(INFO, first, lambda: next(cameras, None), patience=HURRIED, say=said.append)
    taken = collect(source)
    assert set(taken) <= {1, 2, 3, 100, 101, 102} and taken == sorted(set(taken)) and {3, 102} <= set(taken)
    assert (source.reconnects, first.closed, source.dropped) == (2, 1, 6 - len(taken))
    assert said[0] == "camera 0: the connection broke after 3 frames; connecting again"
    assert said[1].startswith("camera 0: the connection broke after 3 frames")  # one opened and gave nothing
    assert any(line.startswith("camera 0: frames again after ") for line in said[2:])
    assert said[-1].startswith("camera 0: no frame for ") and said[-1].endswith("s; given up")
    assert source.longest_silence_s > 0.04


def connections(*plans: list[int | float | None], give_up_s: float = 10.0) -> tuple[LiveSource, list[str]]:
    """A stream that gives one plan after the other, each until it breaks; what it says."""
    first, *others = [Camera(*plan) for plan in plans]
    said: list[str] = []
    source = LiveSource(
        INFO,
        first,
        lambda: others.pop(0) if others else None,
        patience=replace(HURRIED, silence_s=5.0, give_up_s=give_up_s),
        refetched=Refetched(),
        max_age_ms=5000,
        say=said.append,
    )
    return source, said


def test_a_recording_that_is_given_again_is_over() -> None:
    source, said = connections([*range(12)], [*range(12)], [*range(12)])
    levels = collect(source)
    assert levels == sorted(set(levels)) and len(levels) + source.dropped == 12 and source.reconnects == 1
    assert said[-1] == "camera 0: the same 12 frames came again; it is a recording and over"
    assert "is a recording that states no length" in source.info.notes[-1]


def test_of_a_recording_that_breaks_off_what_is_new_counts() -> None:
    source, said = connections([*range(8)], [*range(5)], [*range(12)], [*range(12)])
    levels = collect(source)
    assert levels == sorted(set(levels)) and len(levels) + source.dropped == 12 and source.reconnects == 3
    assert said[-1].endswith("it is a recording and over")


def test_a_camera_that_repeats_itself_is_no_recording() -> None:
    dark, day = [0] * 10, [*range(100, 120)]
    cases: list[tuple[list[int], list[int], int]] = [
        (dark, dark, 20),
        (day, [*range(50, 70)], 40),
        (day, [*day[:5], *range(50, 65)], 35),  # as long as it gives the very same, nobody can know
    ]
    for before, after, arrived in cases:
        source, said = connections([*before], [*after], give_up_s=2.0)
        assert len(collect(source)) + source.dropped == arrived
        assert said[-1].endswith("given up") and not source.info.notes


def test_waits_between_connections_grow() -> None:
    tries: list[float] = []

    def connect() -> None:
        tries.append(time.perf_counter())

    patience = Patience(first_wait_s=0.02, longest_wait_s=0.1, give_up_s=0.7)
    assert collect(LiveSource(INFO, Camera(1), connect, patience=patience)) == [1]
    waits = np.diff(tries)
    assert waits[:2] == pytest.approx([0.04, 0.08], abs=0.03) and waits[3:-1] == pytest.approx(0.1, abs=0.03)
    assert len(tries) < 12


def test_a_stall_is_said_once_and_no_frame_is_made_up() -> None:
    said: list[str] = []
    source = LiveSource(INFO, Camera(1, 0.5, 2), lambda: None, patience=Patience(0.15, give_up_s=0), say=said.append)
    assert collect(source) == [1, 2]
    assert len(said) == 2
    assert said[0].startswith("camera 0: no frame for 0.") and said[0].endswith("; waiting")
    assert said[1].startswith("camera 0: frames again after 0.5")


def test_stopping_while_nothing_comes() -> None:
    stop = threading.Event()
    source = LiveSource(INFO, Camera(1, 5.0, 2), lambda: None, stopped=stop.is_set)
    frames = source.frames()
    next(frames)
    threading.Timer(0.2, stop.set).start()
    begun = time.perf_counter()
    assert list(frames) == []
    source.close()
    assert time.perf_counter() - begun < 1


def test_after_closing_nothing_is_counted_any_more() -> None:
    asked, go_on = threading.Event(), threading.Event()

    class Held(Camera):
        def read(self) -> NDArray[np.uint8] | None:
            if len(self.plan) == 1:
                asked.set()
                go_on.wait(30)
            return super().read()

    source = LiveSource(INFO, Held(1, 2, 3, 4), lambda: None, max_age_ms=60_000, patience=Patience(give_up_s=0))
    frames = source.frames()
    taken = [int(next(frames)[0, 0, 0])]
    assert asked.wait(30)
    source.close()
    assert source.dropped == 2  # the second or the first, and the third, which nobody took
    go_on.set()
    source._thread.join(30)
    assert source.dropped == 2 and list(frames) == [] and taken[0] in (1, 2, 3)


def test_a_source_that_never_delivers() -> None:
    source = LiveSource(INFO, Camera(), lambda: None, patience=Patience(give_up_s=0))
    with pytest.raises(VideoError, match="'camera 0' opens but delivers no frame"):
        collect(source)


def test_an_error_while_reading_reaches_the_consumer() -> None:
    class Broken(Camera):
        def read(self) -> NDArray[np.uint8] | None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        collect(LiveSource(INFO, Broken(), lambda: None))


class Station:
    """A camera with a web server, as many are: JPEG pictures one after the other (``multipart/x-mixed-replace``)."""

    def __init__(self, port: int = 0, fps: float = 50) -> None:
        station = self
        self.sent = 0
        self.off = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                while not station.off.is_set():
                    level = 10 * (station.sent % 20)
                    data = cv2.imencode(".jpg", np.full((64, 128, 3), level, np.uint8))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                    try:
                        self.wfile.write(head + data + b"\r\n")
                    except OSError:
                        return
                    station.sent += 1
                    time.sleep(1 / fps)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def switch_off(self) -> None:
        self.off.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def station() -> Iterator[Callable[..., Station]]:
    stations = []

    def start(**options: int) -> Station:
        stations.append(Station(**options))
        return stations[-1]

    yield start
    for made in stations:
        if not made.off.is_set():
            made.switch_off()


def test_a_real_stream_that_goes_away_and_comes_back(station: Callable[..., Station]) -> None:
    said: list[str] = []
    first = station()
    url = f"http://me:geheim@127.0.0.1:{first.port}/live.mjpg?token=geheim"
    source = open_source(url, live=LiveOptions(say=said.append, max_age_ms=500, reconnect_s=20))
    assert (source.info.kind, source.info.live, source.info.frames) == ("stream", True, None)
    frames = source.frames()
    for _ in range(10):
        assert next(frames).shape == (64, 128, 3)
    first.switch_off()
    off_s = time.perf_counter()
    threading.Timer(1.0, lambda: station(port=first.port)).start()
    for _ in frames:  # what was under way, then nothing until the station is back
        if time.perf_counter() - off_s > 1.0:
            break
    for _ in range(5):
        next(frames)
    source.close()
    assert source.reconnects >= 1 and 0.9 < source.longest_silence_s < 10
    assert any("connecting again" in text for text in said) and "frames again after" in said[-1]
    assert not any("geheim" in text for text in (*said, source.info.name, *source.info.notes))


def test_a_slow_consumer_of_a_real_stream_does_not_fall_behind(station: Callable[..., Station]) -> None:
    """20 frames a second come and 5 are taken: after two seconds the frame in hand is still a new one."""
    sender = station(fps=20)
    source = open_source(f"http://127.0.0.1:{sender.port}/live.mjpg", live=LiveOptions(max_age_ms=200))
    behind = []
    begun = time.perf_counter()
    for frame in source.frames():
        level = round(float(frame.mean()) / 10)
        behind.append((sender.sent - level) % 20)  # 1: the frame that was sent last
        time.sleep(0.2)
        if time.perf_counter() - begun > 2:
            break
    source.close()
    assert max(behind[2:]) <= 4 and source.dropped > 15


def h264_in_ts(numbers: range) -> bytes:
    """Frames that show their numbers as eight bright or dark bars, as an IP camera sends them: none held back."""
    av = pytest.importorskip("av", reason="needs PyAV for H.264: pip install 'drivetl[video]'")
    sent = io.BytesIO()
    options = {"flush_packets": "1", "muxdelay": "0", "muxpreload": "0"}
    container = av.open(sent, "w", format="mpegts", container_options=options)
    stream = container.add_stream("libx264", rate=20)
    stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
    stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10"}
    for number in numbers:
        bars = np.unpackbits(np.array([number], np.uint8)) * np.uint8(255)
        frame = av.VideoFrame.from_ndarray(np.tile(bars.repeat(16)[None, :, None], (64, 1, 3)), format="bgr24")
        frame.pts = number
        container.mux(stream.encode(frame))
    data = sent.getvalue()
    container.close()
    return data


def test_an_h264_stream_is_at_most_two_frames_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It pauses after 100 frames: as many as do not come now are as many as it is always late by.

    One is held back by the container, whose picture ends where the next begins, and one by the decoder. With a decoding
    thread for each of eight cores seven more would be missing; on a single core there is nothing to see.
    """
    data, count = h264_in_ts(range(100)), 100
    paused = threading.Event()
    monkeypatch.setattr("drivetl.video.sources._NETWORK_TIMEOUT_MS", 60_000)  # a read that fails gives them all

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
            paused.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    give_up_s = time.perf_counter() + 20
    live = LiveOptions(max_age_ms=60_000, reconnect_s=0, stopped=lambda: time.perf_counter() > give_up_s)
    try:
        source = open_source(f"http://127.0.0.1:{server.server_port}/x.ts", live=live)
        newest = -1
        for frame in source.frames():
            newest = int(np.packbits(frame[32, 8::16, 0] > 128)[0])
            if newest >= count - 3:
                break
        source.close()
    finally:
        paused.set()
        server.shutdown()
        server.server_close()
    assert newest >= count - 3
