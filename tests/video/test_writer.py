from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.errors import OutputError, VideoError
from drivetl.video.writer import check_target, video_output

Grey = Callable[..., NDArray[np.uint8]]
Read = Callable[[Path], list[NDArray[np.uint8]]]


@pytest.fixture(params=["h264", "mpeg4"])
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "h264":
        pytest.importorskip("av", reason="needs PyAV for H.264: pip install 'drivetl[video]'")
    else:
        monkeypatch.setattr("drivetl.video.writer.h264_available", lambda: False)
    return str(request.param)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".MP4"])
def test_frames_come_back(tmp_path: Path, codec: str, ending: str, grey: Grey, read_frames: Read) -> None:
    target = tmp_path / f"new folder/a{ending}"
    levels = [0, 50, 100, 150, 200, 255, 30]
    with video_output(target, fps=30000 / 1001) as output:
        for level in levels:
            output.write(grey(level))
    assert output.codec == codec
    assert [float(frame.mean()) for frame in read_frames(target)] == pytest.approx(levels, abs=4)
    capture = cv2.VideoCapture(str(target))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(30000 / 1001, rel=1e-4)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_colours_survive(tmp_path: Path, codec: str, read_frames: Read) -> None:
    patches = [(233, 180, 86), (0, 94, 213), (66, 228, 240), (115, 158, 0), (255, 255, 255)]
    frame = np.repeat(np.array(patches, np.uint8), 32, axis=0)[None].repeat(64, axis=0)
    with video_output(tmp_path / "a.mp4", fps=25) as output:
        for _ in range(3):
            output.write(frame)
    for index, patch in enumerate(patches):
        assert read_frames(tmp_path / "a.mp4")[1][32, 32 * index + 16].tolist() == pytest.approx(patch, abs=6)


@pytest.mark.parametrize("size_wh", [(129, 64), (128, 63), (1, 1)])
def test_odd_sides(tmp_path: Path, codec: str, size_wh: tuple[int, int], grey: Grey, read_frames: Read) -> None:
    with video_output(tmp_path / "a.mp4", fps=25) as output:
        output.write(grey(100, size_wh))
    height, width = read_frames(tmp_path / "a.mp4")[0].shape[:2]
    if codec == "h264":
        assert (width, height) == size_wh
        assert "yuv444p" in output.notes[0]
    else:
        assert (width, height) == (size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2)
        assert f"became {width}x{height}" in output.notes[1]


def test_h264_is_what_browsers_want(tmp_path: Path, grey: Grey) -> None:
    av = pytest.importorskip("av", reason="needs PyAV for H.264: pip install 'drivetl[video]'")
    with video_output(tmp_path / "a.mp4", fps=25) as output:
        output.write(grey(100))
    assert output.notes == ()
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert (container.streams.video[0].codec_context.name, container.streams.video[0].pix_fmt) == (
            "h264",
            "yuv420p",
        )
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # the index stands in front


@pytest.mark.parametrize("fps", [0.0123, 1 / 3600, 2.5, 30000 / 1001])
def test_slow_recordings_keep_their_rate(tmp_path: Path, grey: Grey, fps: float) -> None:
    av = pytest.importorskip("av", reason="needs PyAV for H.264: pip install 'drivetl[video]'")
    with video_output(tmp_path / "a.mp4", fps=fps) as output:
        for level in (0, 100, 200):
            output.write(grey(level))
    with av.open(str(tmp_path / "a.mp4")) as container:
        track = container.streams.video[0]
        times_s = [float(packet.pts * track.time_base) for packet in container.demux(track) if packet.pts is not None]
    assert np.diff(sorted(times_s)) == pytest.approx(1 / fps, rel=1e-4)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("even", [0, 7])
def test_times_may_begin_in_the_middle(tmp_path: Path, grey: Grey, ending: str, even: int) -> None:
    av = pytest.importorskip("av", reason="needs PyAV for H.264: pip install 'drivetl[video]'")
    rng = np.random.default_rng(0)
    uneven_s = even / 25 + np.cumsum(rng.uniform(0.004, 0.3, 60)) - 0.004
    times_s = [*(index / 25 for index in range(even)), *uneven_s.tolist()]
    with video_output(tmp_path / f"a{ending}", fps=25) as output:
        for index, time_s in enumerate(times_s):
            output.write(grey(index, (64, 64)), None if index < even else time_s)
    with av.open(str(tmp_path / f"a{ending}")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    # Matroska holds no decoding times, and those of the first packets cannot be told from the others.
    decoded = [packet.dts for packet in packets if packet.dts is not None]
    assert decoded == sorted(set(decoded)) and len(decoded) >= len(packets) - 2
    assert all(packet.pts >= packet.dts for packet in packets if packet.dts is not None)
    shown_s = sorted(float(packet.pts * packet.time_base) for packet in packets)
    assert np.diff(shown_s) == pytest.approx(np.diff(times_s), abs=0.002)


def test_the_encoder_leaves_half_of_the_cores_to_the_network(
    tmp_path: Path, grey: Grey, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av", reason="needs PyAV for H.264: pip install 'drivetl[video]'")
    from drivetl.video.h264 import H264

    used = []
    for cores in (1, 2, 8, 64):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        video = H264(tmp_path / f"{cores}.mp4", 25, (64, 64), tmp_path / "a.mp4")
        used.append(video._stream.codec_context.thread_count)
        video.abandon()
    assert used == [1, 1, 4, 8]


@pytest.mark.parametrize("installed", [False, True])
def test_the_fallback_is_said(
    tmp_path: Path, grey: Grey, monkeypatch: pytest.MonkeyPatch, read_frames: Read, installed: bool
) -> None:
    """Where there is no PyAV, and where it was built on an FFmpeg without x264."""
    if installed:
        pytest.importorskip("av", reason="needs PyAV: pip install 'drivetl[video]'")
        monkeypatch.setattr("av.codecs_available", {"mpeg4", "h264"})
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with video_output(tmp_path / "a.mp4", fps=25) as output:
        output.write(grey(100))
    remedy = "has no libx264, and its wheel has: pip" if installed else "for H.264: pip install 'drivetl[video]'"
    assert output.codec == "mpeg4" and len(read_frames(tmp_path / "a.mp4")) == 1
    assert "which browsers do not play" in output.notes[0] and remedy in output.notes[0]


def test_a_name_that_opencv_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    monkeypatch.setattr("drivetl.video.writer.h264_available", lambda: True)
    check_target(target)
    monkeypatch.setattr("drivetl.video.writer.h264_available", lambda: False)
    with pytest.raises(OutputError, match=r"caf\\udce9\.mp4' cannot be written: without H.264 OpenCV writes it, which"):
        check_target(target)


def test_an_error_leaves_nothing(tmp_path: Path, codec: str, grey: Grey) -> None:
    with pytest.raises(ZeroDivisionError), video_output(tmp_path / "a.mp4", fps=25) as output:
        output.write(grey(100))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_no_frame_is_no_video(tmp_path: Path, codec: str) -> None:
    with pytest.raises(VideoError, match="there is no frame to write"), video_output(tmp_path / "a.mp4", fps=25):
        pass
    assert list(tmp_path.iterdir()) == []


_FULL_DISK = """
import resource, sys
import numpy as np
from pathlib import Path
import drivetl.video.writer as writer
from drivetl.errors import OutputError
if sys.argv[2] == "mpeg4":
    writer.h264_available = lambda: False
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
rng = np.random.default_rng(0)
written = 0
try:
    with writer.video_output(Path(sys.argv[1]), fps=25) as output:
        while written < 4000 and not output.failed:
            image_bgr = np.full((240, 320, 3), 100, np.uint8)
            image_bgr[:96, :96] = rng.integers(0, 256, (96, 96, 3), np.uint8)
            output.write(image_bgr)
            written += 1
except OutputError as error:
    print(written, error)
"""


def on_a_full_disk(target: Path, codec: str, limit_bytes: int) -> tuple[int, str]:
    """Write until nothing more fits; return how many frames were written and what was said."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(target), codec, str(limit_bytes)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    written, said = done.stdout.split(" ", 1)
    return int(written), said


def test_full_disk(tmp_path: Path, codec: str) -> None:
    """A limit on the size of files refuses writes in the middle, as a full disk does; here not one frame fits."""
    _, said = on_a_full_disk(tmp_path / "a.mp4", codec, 5_000)
    assert said.startswith(f"cannot write '{tmp_path}") and "free space" in said and "are kept" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_what_was_written_before_the_disk_was_full_stays_playable(
    tmp_path: Path, codec: str, ending: str, read_frames: Read
) -> None:
    target = tmp_path / f"a{ending}"
    written, said = on_a_full_disk(target, codec, 1_500_000)
    found = re.fullmatch(
        r"cannot write '.*': (.+); free .*\. The first (\d+) frames are kept and can be played\n", said
    )
    assert found is not None and found[1] == "File too large"
    assert 10 < int(found[2]) <= written < 4000  # it does not go on for hours
    assert len(read_frames(target)) == int(found[2]) and target.stat().st_size <= 1_500_000
    assert list(tmp_path.iterdir()) == [target]


def test_unwritable_folder(tmp_path: Path, grey: Grey) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"), video_output(tmp_path / "file/a.mp4", fps=25) as output:
        output.write(grey(1))
