from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.errors import ImageError, VideoError, printable_source
from drivetl.video import LiveOptions, open_source
from drivetl.video.clock import FrameClock
from drivetl.video.sources import _CAMERA_DEVICE, check_source

MakeVideo = Callable[..., Path]
Grey = Callable[..., NDArray[np.uint8]]


def levels(source: str, **options: Any) -> list[int]:
    """The mean brightness of each frame."""
    opened = open_source(source, **options)
    try:
        return [round(float(frame.mean())) for frame in opened.frames()]
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("name", "four_cc", "fps"),
    [("a.mp4", "mp4v", 25.0), ("a.mkv", "mp4v", 29.97), ("a.avi", "MJPG", 12.5), ("a.webm", "VP80", 30.0)],
)
def test_every_frame_in_order(make_video: MakeVideo, name: str, four_cc: str, fps: float) -> None:
    wanted = [20, 60, 100, 140, 180, 220, 250] * 3
    path = make_video(name, wanted, fps=fps, four_cc=four_cc)
    info = open_source(str(path)).info
    assert (info.kind, info.frames) == ("file", 21)
    assert info.fps == pytest.approx(fps, rel=1e-3)
    assert levels(str(path)) == pytest.approx(wanted, abs=4)


def test_pictures_in_natural_order(tmp_path: Path, grey: Grey) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, level in (("f10.png", 100), ("f2.PNG", 20), ("f1.png", 10), ("G3.png", 200)):
        encoded = cv2.imencode(".png", grey(level))[1]
        (folder / name).write_bytes(encoded.tobytes())
    (folder / "notes.txt").write_text("no picture")
    (folder / "f3.png").mkdir()
    assert levels(str(folder)) == [10, 20, 100, 200]
    assert open_source(str(folder), picture_fps=5).info.fps == 5
    assert open_source(str(folder)).info.frames == 4


def test_pictures_that_are_left_out_are_said(tmp_path: Path, grey: Grey) -> None:
    encoded = cv2.imencode(".png", grey(10))[1].tobytes()
    for name in ("1.png", "2.tif", "3.TIFF", "4.tif"):
        (tmp_path / name).write_bytes(encoded)
    assert levels(str(tmp_path)) == [10]
    assert open_source(str(tmp_path)).info.notes == (
        f"pictures left out of '{tmp_path}', because drivetl does not read their kind: 3 (.tif, .tiff); convert them "
        "to PNG or JPEG",
    )
    (tmp_path / "1.png").unlink()
    with pytest.raises(VideoError, match=r"holds no picture \(jpg.*\); convert its \.tif, \.tiff to PNG"):
        open_source(str(tmp_path))


def test_pictures_in_the_order_of_a_list(tmp_path: Path, grey: Grey) -> None:
    (tmp_path / "pictures").mkdir()
    for name, level in (("a b.png", 100), ("c.png", 20)):
        cv2.imwrite(str(tmp_path / "pictures" / name), grey(level))
    listing = tmp_path / "list.txt"
    listing.write_text("# two\n\npictures/c.png\npictures/a b.png\r\npictures/c.png\n", encoding="utf-8-sig")
    assert levels(str(listing)) == [20, 100, 20]
    assert (open_source(str(listing)).info.kind, open_source(str(listing)).info.frames) == ("pictures", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.png\n", r"line 1: there is no picture '.*a\.png'; paths are relative"),
        (b"# nothing\n", "names no picture"),
        (b"\xff\xfe", "is no list of pictures"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(VideoError, match=message):
        open_source(str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rtsp://admin:geheim@10.0.0.5/live", r"line 2 names 'rtsp://…@10\.0\.0\.5/live', and a list holds paths"),
        ("rtsp:/admin:geheim@10.0.0.5/live", r"line 2: there is no picture '.*rtsp:/…'; paths are relative"),
        ("admin:geheim@10.0.0.5/live", r"line 2: there is no picture '.*…@10\.0\.0\.5/live'; paths are relative"),
    ],
)
def test_a_list_of_streams_gives_no_password_away(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "cams.txt").write_text(f"# cameras\n{line}\n", encoding="utf-8")
    with pytest.raises(VideoError, match=message) as caught:
        open_source(str(tmp_path / "cams.txt"))
    assert "geheim" not in str(caught.value)


def test_frames_may_be_drawn_on(tmp_path: Path, grey: Grey, make_video: MakeVideo) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), grey(10))
    for source in (tmp_path, make_video("a.mp4", [10])):
        frame = next(open_source(str(source)).frames())
        frame[:] = 7
        assert frame.shape == (64, 128, 3)


def test_unreadable_picture_is_named(tmp_path: Path, grey: Grey) -> None:
    encoded = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(encoded)
    (tmp_path / "b.jpg").write_bytes(encoded[: len(encoded) // 2])
    with pytest.raises(ImageError, match=r"b\.jpg' ends before its last pixel"):
        levels(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "four_cc"), [("cut.avi", "MJPG"), ("cut.mkv", "mp4v"), ("cut.webm", "VP80"), ("cut.ts", "mp4v")]
)
def test_cut_in_the_middle_of_a_frame(make_video: MakeVideo, name: str, four_cc: str) -> None:
    path = make_video(name, [0] * 30, four_cc=four_cc, noise=True)
    assert len(levels(str(path))) == 30
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(VideoError, match=r"is cut off: its .* needs \d+ bytes and the file has \d+; .*--allow-trunc"):
        open_source(str(path))
    assert 3 < len(levels(str(path), allow_truncated=True)) < 30
    assert "is cut off" in open_source(str(path), allow_truncated=True).info.notes[0]


def test_cut_before_the_index(make_video: MakeVideo) -> None:
    path = make_video("cut.mp4", [0] * 10, noise=True)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(VideoError, match="cut off before its index"):
        open_source(str(path), allow_truncated=True)


@pytest.mark.parametrize(("name", "four_cc"), [("hole.mp4", "mp4v"), ("hole.avi", "MJPG"), ("hole.mkv", "mp4v")])
def test_damage_inside_is_noticed_at_the_end(make_video: MakeVideo, name: str, four_cc: str) -> None:
    path = make_video(name, [0] * 30, four_cc=four_cc, noise=True)
    whole = path.read_bytes()
    half, tail = len(whole) // 2, 0 if name.endswith("mkv") else 3000  # the index of the others stands at the end
    path.write_bytes(whole[:half] + bytes(len(whole) - half - tail) + whole[len(whole) - tail :])
    with pytest.raises(VideoError, match=r"is damaged: \d+ of about 30 frames could be read, up to .* of 1\.20 s"):
        levels(str(path))
    opened = open_source(str(path), allow_truncated=True)
    assert 3 < sum(1 for _ in opened.frames()) < 30
    assert "is damaged" in opened.info.notes[-1]


def test_uneven_spacing_is_no_damage(tmp_path: Path, grey: Grey) -> None:
    """OpenCV estimates 53 frames for these 38; their time stamps agree with the length."""
    av = pytest.importorskip("av", reason="needs PyAV to write uneven time stamps")
    from fractions import Fraction

    for name in ("a.mkv", "a.mp4", "a.ts"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for index in range(38):
                frame = av.VideoFrame.from_ndarray(grey(6 * index), format="bgr24")
                frame.pts, frame.time_base = 40 * index + 200 * (index // 10), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        opened = open_source(str(tmp_path / name))
        times_s = [opened.shown_s for _ in opened.frames()]
        wanted_s = np.array([(40 * index + 200 * (index // 10)) / 1000 for index in range(38)])
        assert len(times_s) == 38, name
        # Until frames leave the even rate by more than half of their distance, they are taken to keep it.
        even = times_s.index(next(time_s for time_s in times_s if time_s is not None))
        assert None not in times_s[even:] and 1 <= even <= 10, name
        assert np.abs(wanted_s[:even] - np.arange(even) / opened.info.fps).max() <= 0.5 / opened.info.fps, name
        np.testing.assert_allclose(np.array(times_s[even:], float), wanted_s[even:], atol=0.001, err_msg=name)
        assert "its frames are unevenly spaced" in opened.info.notes[-1]


def test_a_hole_in_the_middle_does_not_pass_as_uneven_spacing(tmp_path: Path, make_video: MakeVideo) -> None:
    whole = make_video("whole.mkv", [0] * 40, noise=True).read_bytes()
    path = tmp_path / "hole.mkv"
    path.write_bytes(whole[: len(whole) // 4] + bytes(len(whole) // 2) + whole[len(whole) // 4 + len(whole) // 2 :])
    opened = open_source(str(path))
    read = sum(1 for _ in opened.frames())
    assert 5 < read < 30
    assert f"{read} of about 40 stated frames came: it is damaged, or its frames are uneven" in opened.info.notes[-1]


def test_even_frames_keep_their_exact_rate(make_video: Callable[..., Path]) -> None:
    for name, four_cc in (("a.mp4", "mp4v"), ("a.mkv", "mp4v"), ("a.avi", "MJPG")):
        opened = open_source(str(make_video(name, [10, 20, 30, 40], fps=29.97, four_cc=four_cc)))
        assert [opened.shown_s for _ in opened.frames()] == [None] * 4
        assert not any("unevenly" in note for note in opened.info.notes)


def test_a_container_without_times_is_even() -> None:
    clock = FrameClock(10.0)
    assert [clock(place_s) for place_s in (0.0, 0.0, 0.0, math.nan, math.inf, 0.0)] == [None] * 6 and not clock.uneven


def test_times_that_go_back_are_not_believed() -> None:
    clock = FrameClock(10.0)
    places_s = (5.0, 5.14, 5.5, 0.0, math.nan, 5.75, 6.5)
    assert [clock(place_s) for place_s in places_s] == [None, None, *map(pytest.approx, (0.5, 0.6, 0.7, 0.75, 1.5))]


def test_times_rise_where_the_even_rate_ends() -> None:
    clock = FrameClock(10.0)
    # The frame at 0.06 was shown at 0.1, as the even rate says; the next one lies before that and comes after it.
    shown_s = [clock(place_s) for place_s in (0.0, 0.06, 0.08, 0.2)]
    assert shown_s == [None, None, pytest.approx(0.101), pytest.approx(0.2)]


@pytest.mark.parametrize("source", ["99999999999999999999", "a" * 300 + ".mp4", "a\0b.mp4"])
def test_names_that_no_system_takes(source: str) -> None:
    with pytest.raises(VideoError, match=r"does not open|cannot read the source"):
        open_source(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello " * 300, "is not a video that this OpenCV reads"),
        (b"\x1a\x45\xdf\xa3" + bytes(2000), "is not a video that this OpenCV reads"),
    ],
)
def test_no_video(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=message):
        open_source(str(path))


def test_a_codec_that_is_not_there(make_video: MakeVideo) -> None:
    path = make_video("a.avi", [10, 20, 30])
    data = path.read_bytes()
    assert data.count(b"FMP4") + data.count(b"mp4v") >= 1
    path.write_bytes(data.replace(b"FMP4", b"ZZZZ").replace(b"mp4v", b"ZZZZ"))
    with pytest.raises(VideoError, match=r"holds no frame that this OpenCV can decode|is not a video that this OpenCV"):
        levels(str(path))


OTHER_ENCODING = os.fsdecode(b"caf\xe9")  # Latin-1


def test_names_in_another_encoding(make_video: MakeVideo, tmp_path: Path, grey: Grey) -> None:
    """OpenCV ends the process at such a name, the folders above a file included; pictures are read without it."""
    folder = tmp_path / OTHER_ENCODING
    folder.mkdir()
    video = make_video("a.mp4", [10, 20])
    for place in (folder / "a.mp4", tmp_path / f"{OTHER_ENCODING}.mp4"):
        shutil.copy(video, place)
        with pytest.raises(
            VideoError, match=r"caf\\udce9.* cannot be opened: OpenCV takes names in UTF-8 only; rename it"
        ):
            open_source(str(place))
    with pytest.raises(VideoError, match="OpenCV takes names in UTF-8 only"):
        open_source(f"http://127.0.0.1:9/{OTHER_ENCODING}.mp4")
    (folder / f"{OTHER_ENCODING}.png").write_bytes(cv2.imencode(".png", grey(10))[1].tobytes())
    assert levels(str(folder)) == [10]
    assert open_source(str(folder)).info.name == f"{tmp_path}/caf\\udce9"


def test_a_file_url_is_a_path(make_video: MakeVideo, tmp_path: Path, grey: Grey) -> None:
    video = make_video("100% #1?.mp4", [10, 20])
    opened = open_source(f"file://{tmp_path}/100%25 #1?.mp4")
    assert (opened.info.kind, opened.info.name, opened.info.live) == ("file", str(video), False)
    cv2.imwrite(str(tmp_path / "a.png"), grey(10))
    assert levels(f"file://{tmp_path}") == [10]
    for look in (open_source, check_source):
        with pytest.raises(VideoError, match=r"'/nowhere\.mp4' does not exist"):
            look("file:///nowhere.mp4")
        with pytest.raises(VideoError, match=r"'file://nas/a\.mp4' names a file of another machine; give a path"):
            look("file://nas/a.mp4")


@pytest.mark.parametrize("source", ["", "  "])
def test_a_variable_that_was_not_set_is_no_folder(
    source: str, tmp_path: Path, grey: Grey, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), grey(10))
    monkeypatch.chdir(tmp_path)
    for look in (open_source, check_source):
        with pytest.raises(VideoError, match=f"the source '{source}' is empty; give a video file, a folder"):
            look(source)
    assert levels(".") == [10]


def test_no_source(tmp_path: Path) -> None:
    for look in (open_source, check_source):
        with pytest.raises(VideoError, match=r"nowhere\.mp4' does not exist; give a video file"):
            look(str(tmp_path / "nowhere.mp4"))
    for source in ("97", "rtsp://127.0.0.1:9/nowhere", str(tmp_path)):
        check_source(source)  # which opens nothing
    with pytest.raises(VideoError, match="holds no picture"):
        open_source(str(tmp_path))
    with pytest.raises(VideoError, match="camera '97' does not open"):
        open_source("97")


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    for place in (tmp_path / "fifo.mp4", Path("/dev/null")):
        with pytest.raises(VideoError, match=f"'{place}' is a pipe or a device and no video file; give a file"):
            open_source(str(place))
    # A link stands for /dev/video7, which this machine need not have.
    (tmp_path / "front").symlink_to("/dev/null")
    monkeypatch.setattr("drivetl.video.sources._CAMERA_DEVICE", re.compile("/dev/(null)"))
    opened: list[str] = []
    monkeypatch.setattr("drivetl.video.sources._open_camera", lambda index, _: opened.append(index))
    open_source(str(tmp_path / "front"))
    assert opened == ["null"]


def test_a_device_of_a_camera_is_told_by_its_name() -> None:
    found = _CAMERA_DEVICE.fullmatch("/dev/video12")
    assert found is not None and found[1] == "12"
    assert _CAMERA_DEVICE.fullmatch("/dev/video") is None and _CAMERA_DEVICE.fullmatch("/dev/video1.mp4") is None


def test_unreadable_file(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    path = make_video("a.mp4", [10])
    monkeypatch.setattr("drivetl.video.sources.inspect_container", refuse)
    with pytest.raises(VideoError, match=r"cannot read '.*a\.mp4': Permission denied"):
        open_source(str(path))


def test_a_file_named_like_a_url_protocol(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("a.mp4", [10, 20])
    path.rename(path.with_name("concat:b.mp4"))
    monkeypatch.chdir(path.parent)
    assert len(levels("concat:b.mp4")) == 2


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:geheim@10.0.0.5:554/live", "rtsp://…@10.0.0.5:554/live"),
        ("rtsp://me:ge@/h?eim@10.0.0.5/live", "rtsp://…"),
        ("rtsp://cam/stream?user=admin&password=p@geheim", "rtsp://…"),
        ("rtsp://10.0.0.5:554/user=admin&password=geheim&channel=1&stream=0.sdp?real", "rtsp://10.0.0.5:554/…"),
        ("rtsp://10.0.0.5/live;pwd=geheim", "rtsp://10.0.0.5/…"),
        ("http://10.0.0.5/v.mjpg#geheim", "http://10.0.0.5/v.mjpg?…"),
        ("rtsp:/admin:geheim@cam/live", "rtsp:/…"),
        ("rtsp:/cam/live?password=geheim", "rtsp:/…"),
        ("rtsp//admin:geheim@cam/live", "…@cam/live"),
        ("admin:geheim@cam/live", "…@cam/live"),
        ("rtsp//admin:ge@heim@cam/live", "…@cam/live"),
        ("rtsp//admin:ge/heim@cam/live", "…"),
        ("rtsp//admin:x@cam/live?password=geheim", "…"),
        ("rtsp//cam/live?password=a@geheim", "…"),
        ("films/me@home.mp4", "films/me@home.mp4"),
        ("rtsp://cam;pwd=geheim/live", "rtsp://…"),
        ("rtsp://10.0.0.5/user%3Dadmin%26password%3dgeheim", "rtsp://10.0.0.5/…"),
        ("rtsp://10.0.0.5:554/cam/realmonitor", "rtsp://10.0.0.5:554/cam/realmonitor"),
        ("C:/me@home/drive.mp4", "C:/me@home/drive.mp4"),
        ("me@home/drive.mp4", "me@home/drive.mp4"),
        ("http://10.0.0.5/v.mjpg?token=geheim", "http://10.0.0.5/v.mjpg?…"),
        ("http://[::1/x", "http://[::1/x"),
        ("drive.mp4", "drive.mp4"),
    ],
)
def test_passwords_are_never_printed(url: str, shown: str) -> None:
    assert printable_source(url) == shown


def test_a_stream_that_does_not_open() -> None:
    with pytest.raises(VideoError) as caught:
        open_source("nosuchprotocol://me:geheim@host/live")
    assert "nosuchprotocol://…@host/live" in str(caught.value) and "geheim" not in str(caught.value)


@pytest.mark.material
def test_real_videos_are_whole(material: Path) -> None:
    for name, frames in (("highway-day.mp4", 221), ("two-cars.mp4", 38)):
        assert len(levels(str(material / "video" / name))) == frames


class _BreaksOff(BaseHTTPRequestHandler):
    """A server that promises a whole file and hangs up on the way."""

    content = b""
    share = 1.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/x-msvideo")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.content[: int(self.share * len(self.content))])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Yield the port of a server that runs meanwhile."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _StatesNoLength(_BreaksOff):
    """A server that sends what it has and hangs up, and does so again for whoever comes again."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.content)


def test_a_recording_that_states_no_length_ends(make_video: MakeVideo) -> None:
    content = make_video("a.ts", range(0, 200, 5), noise=True).read_bytes()
    with _served(type("Handler", (_StatesNoLength,), {"content": content})) as port:
        opened = open_source(f"http://127.0.0.1:{port}/a.ts", live=LiveOptions(max_age_ms=1000, reconnect_s=20))
        assert opened.info.live and opened.info.frames is None
        frames = sum(1 for _ in opened.frames())
        opened.close()
    assert frames + opened.dropped == 40
    assert "is a recording that states no length" in opened.info.notes[-1]


def test_a_recording_whose_index_stands_at_its_end_behind_a_plain_server(make_video: MakeVideo) -> None:
    content = make_video("a.mp4", [0] * 30, size_wh=(640, 320), noise=True).read_bytes()
    with _served(type("Handler", (_BreaksOff,), {"content": content})) as port:
        opened = open_source(f"http://127.0.0.1:{port}/a.mp4")
        with pytest.raises(VideoError, match=r"its index may stand at its end.*download it, or .*\+faststart"):
            list(opened.frames())


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_recording_behind_a_url_that_breaks_off_is_not_taken_for_a_whole_one(
    share: float, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video("drive.avi", range(0, 200, 2), four_cc="MJPG", noise=True)
    handler = type("Handler", (_BreaksOff,), {"content": video.read_bytes(), "share": share})
    with _served(handler) as port:
        url = f"http://user:secret@127.0.0.1:{port}/drive.avi"
        if share == 1.0:
            options: list[list[int]] = []
            capture = cv2.VideoCapture
            monkeypatch.setattr(cv2, "VideoCapture", lambda *words: (options.append(words[-1]), capture(*words))[1])
            assert len(list(open_source(url).frames())) == 100
            # Decoding in one thread is for what is live.
            assert [cv2.CAP_PROP_N_THREADS in words for words in options] == [True, False]
            return
        with pytest.raises(
            VideoError, match=r"broke off: \d\d of about 100 frames .*run it again.*--allow-truncated"
        ) as e:
            list(open_source(url).frames())
        assert "secret" not in str(e.value)
        allowed = open_source(url, allow_truncated=True)
        assert 30 < len(list(allowed.frames())) < 70
        assert "broke off" in allowed.info.notes[-1]


@pytest.mark.parametrize(
    "source", ["rtsp:/admin:geheim@cam/live", "rtsp:/admin:geheim@" + "a" * 300, "rtsp:/a:geheim@\0"]
)
def test_a_slip_in_the_address_gives_no_password_away(source: str) -> None:
    with pytest.raises(VideoError, match=r"the source 'rtsp:/…'") as caught:
        open_source(source)
    assert "geheim" not in str(caught.value)


def test_a_name_in_a_list_that_no_system_takes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a" * 300 + ".jpg\n")
    with pytest.raises(VideoError, match=r"list\.txt' line 1: there is no picture"):
        open_source(str(tmp_path / "list.txt"))
