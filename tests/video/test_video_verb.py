from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from drivetl.errors import DrivetlError, OutputError, Stopped
from drivetl.runtime import Detector
from drivetl.verbs import video as verb
from drivetl.verbs._console import Reporter

MakeVideo = Callable[..., Path]
Read = Callable[[Path], list[NDArray[np.uint8]]]
PROJECT = Path(__file__).parents[2]


def run(*words: str | Path) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback()(lambda: None)
    verb.register(app)
    return CliRunner().invoke(app, ["video", *map(str, words)])


def test_json(bundle: Path, make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video("in.mp4", [0, 100, 200], size_wh=(256, 128))
    result = run(source, "--model", bundle, "--out", tmp_path / "out.mp4", "--threads", "1", "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    assert (document["schema_version"], document["verb"], document["provider"]) == (1, "video", "cpu")
    assert (document["frames_in"], document["frames_out"], document["dropped"], document["unreadable"]) == (3, 3, 0, 0)
    assert (document["size_wh"], document["source_fps"]) == ([256, 128], 25.0)
    assert document["per_class"] == {"car": 2, "person": 1}
    assert document["codec"] in ("h264", "mpeg4")
    assert document["latency_ms"]["end_to_end"]["p99"] >= document["latency_ms"]["end_to_end"]["p50"] > 0
    assert document["out"] == str(tmp_path / "out.mp4") and (tmp_path / "out.mp4").is_file()


def test_help_says_where_numbers_begin() -> None:
    words = " ".join(re.sub("[│|]", " ", run("--help").output).split())
    assert "frames, tracks and pixels count from 0, as on the picture" in words
    assert "frames, ids and pixels count from 1 (picture and --detections: from 0)" in words


def test_everything_at_once(bundle: Path, make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video("in.mp4", [0, 200, 200, 200], size_wh=(256, 128))
    files = ["--detections", "a.jsonl", "--mot", "a.txt", "--stats", "a.json"]
    places = [str(tmp_path / word) if word.startswith("a.") else word for word in files]
    options = ["--compare", bundle, "--classes", "car", "--weather", "haze:1", "--serve", "--port", "0"]
    words = [source, "--model", bundle, "--threads", "1", "--stills", tmp_path / "stills", "--still-count", "1"]
    result = run(*words, *options, *places, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["per_class"], document["tracks"]) == ({"car": 3}, {"car": 1})
    assert document["compared"]["per_class"] == {"car": 3} and document["compared"]["model"] == "known"
    assert document["latency_ms"]["weather"]["p50"] > 0 and document["live"] is None
    assert len(document["stills"]) == 1 and Path(document["stills"][0]).is_file()
    assert json.loads((tmp_path / "a.json").read_text()) == document
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 4
    assert re.search(r"live page: http://127\.0\.0\.1:\d+/\?token=\S{32}", result.stderr)
    assert "token" not in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "cat"], "--classes names 'cat', which the model 'known' does not know; did you mean 'car'?"),
        (["--weather", "fog:7"], "--weather 'fog:7': the severity is 1 to 5"),
        (["--serve", "--host", "192.0.2.1"], "cannot serve on '192.0.2.1:8470'"),
        (["--serve", "--host", ""], "--host '' names no address; give one of this machine, such as 127.0.0.1"),
        (["--classes", " , "], "--classes ' , ' names none; give some"),
        (["--still-count", "3"], "--still-count without --stills has no effect; give --stills too, or leave it out"),
        (["--host", "0.0.0.0", "--port", "0"], "--host and --port without --serve has no effect"),
        (["--engine-cache", "engines"], "--engine-cache keeps engines of TensorRT, and cpu has none"),
    ],
)
def test_options_that_make_no_sense(bundle: Path, make_video: MakeVideo, words: list[str], message: str) -> None:
    result = run(make_video("in.mp4", [0]), "--model", bundle, *words)
    assert isinstance(result.exception, DrivetlError) and str(result.exception).startswith(message)


@pytest.mark.parametrize("words", [["--threads", "1025"], ["--provider", "vulkan"]])
def test_values_that_no_machine_has_are_usage_errors(bundle: Path, words: list[str]) -> None:
    assert run("in.mp4", "--model", bundle, *words).exit_code == 2


def test_models_whose_folders_have_one_name_are_told_apart(
    bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, places = make_video("in.mp4", [200, 200]), [tmp_path / name / "deep" / "bundle" for name in "ab"]
    for place in places:
        shutil.copytree(bundle, place)
    words = ["--model", places[0], "--compare", places[1], "--detections", tmp_path / "a.jsonl", "--json"]
    result = run(source, *words)
    assert json.loads(result.stdout)["compared"]["model"] == "b/deep/bundle"
    line = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert [model["model"] for model in line["models"]] == ["a/deep/bundle", "b/deep/bundle"]
    names = [["/bundle", "/a/bundle"], ["a/one", "b/two"], ["one", "one"], ["a/one"]]
    found = [verb._model_names([Path(place) for place in pair]) for pair in names]
    assert found == [["/bundle", "a/bundle"], ["one", "two"], ["one", "one"], ["one"]]


def test_results_that_would_be_lost_are_refused_before_the_run(
    bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, taken = make_video("in.mp4", [0]), tmp_path / "taken.json"
    taken.write_text("by hand")
    same, contract = tmp_path / "same.txt", (bundle / "contract.json").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    both = tmp_path / "link" / "same.mp4"
    cases = [
        (["--stats", taken], r"taken\.json.*exists; pass --overwrite"),
        (["--detections", same, "--mot", same], "--detections and --mot are both"),
        (["--out", tmp_path / "same.mp4", "--detections", both], "--out and --detections are both"),
        (["--detections", same, "--stills", same], "--stills and --detections are both"),
        (["--stats", bundle / "contract.json", "--overwrite"], "--stats .* lies in the bundle that is run"),
        (["--stats", tmp_path, "--overwrite"], "--stats .* is a folder"),
        (["--detections", source, "--overwrite"], "--detections .*is the source itself"),
        (["--mot", same, "--no-track"], "would hold no track.*leave out --no-track"),
    ]
    for words, message in cases:
        result = run(source, "--model", bundle, "--out", tmp_path / "out.mp4", *words)
        assert isinstance(result.exception, DrivetlError) and re.search(message, str(result.exception)), words
        assert not (tmp_path / "out.mp4").exists() and not same.exists()
    assert taken.read_text() == "by hand" and (bundle / "contract.json").read_bytes() == contract
    monkeypatch.setattr("drivetl.video.outputs.tracking_available", lambda: False)
    result = run(source, "--model", tmp_path / "no bundle", "--mot", same)  # said before the bundle is opened
    assert "would hold no track" in str(result.exception) and "pip install" in str(result.exception)


def test_a_missing_source_and_a_port_in_use_are_said_before_models_open(
    bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    models = verb._models
    monkeypatch.setattr(verb, "_models", lambda *words: (opened.append(1), models(*words))[1])
    for source in ("", tmp_path / "nowhere.mp4"):
        result = run(source, "--model", bundle, "--serve", "--port", "0")
        assert isinstance(result.exception, DrivetlError) and re.search("empty|does not exist", str(result.exception))
        assert not opened and "live page" not in result.stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = run(make_video("in.mp4", [0]), "--model", bundle, "--serve", "--port", port)
    assert isinstance(result.exception, DrivetlError) and f"'127.0.0.1:{port}': Address already" in str(
        result.exception
    )
    assert not opened
    # And what fails after the port was taken gives it back.
    result = run(make_video("in.mp4", [0]), "--model", tmp_path / "no bundle", "--serve", "--port", port)
    assert "not a bundle folder" in str(result.exception) and opened
    socket.create_server(("127.0.0.1", int(port))).close()


def test_stills_never_take_the_place_of_the_pictures_they_are_made_of(bundle: Path, tmp_path: Path) -> None:
    pictures, listing = tmp_path / "pictures", tmp_path / "some.txt"
    pictures.mkdir()
    for index in range(2):
        cv2.imwrite(str(pictures / f"frame-{index:06d}.jpg"), np.full((64, 64, 3), 200, np.uint8))
    listing.write_text("pictures/frame-000001.jpg\n", encoding="utf-8")
    before = [path.read_bytes() for path in sorted(pictures.iterdir())]
    for source in (pictures, listing):
        result = run(source, "--model", bundle, "--stills", pictures, "--overwrite")
        assert isinstance(result.exception, DrivetlError) and "holds pictures of the source" in str(result.exception)
    assert [path.read_bytes() for path in sorted(pictures.iterdir())] == before
    assert run(pictures, "--model", bundle, "--stills", tmp_path / "stills").exit_code == 0


def test_no_output_takes_the_place_of_a_picture_of_the_source(bundle: Path, tmp_path: Path) -> None:
    pictures, listing = tmp_path / "pictures", tmp_path / "some.txt"
    pictures.mkdir()
    picture = pictures / "a.png"
    cv2.imwrite(str(picture), np.full((64, 64, 3), 200, np.uint8))
    listing.write_text("pictures/a.png\n", encoding="utf-8")
    before = picture.read_bytes()
    for source in (pictures, listing, f"file://{pictures}"):
        for option in ("--detections", "--mot", "--stats"):
            result = run(source, "--model", bundle, option, picture, "--overwrite")
            message = rf"{option} '.*a\.png' is a picture of the source; choose another file"
            assert isinstance(result.exception, DrivetlError) and re.search(message, str(result.exception))
    assert picture.read_bytes() == before
    assert run(listing, "--model", bundle, "--detections", pictures / "a.jsonl").exit_code == 0


@pytest.mark.parametrize("option", ["--out", "--detections", "--mot", "--stats", "--stills"])
def test_a_place_where_nothing_can_be_written_is_said_before_models_open(
    option: str, bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_models", lambda *_: pytest.fail("the models open"))
    places = [Path("/proc/new/a.mp4"), tmp_path / "new" / f"{'a' * 249}.mp4"]
    for place in places[:1] if option == "--stills" else places:  # in a folder of a long name, stills have short ones
        result = run(make_video("in.mp4", [0]), "--model", bundle, option, place)
        assert isinstance(result.exception, DrivetlError), result.exception
        assert re.search(r"cannot write '.*'?: .*; free space or choose another place", str(result.exception))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_statistics_that_cannot_be_written_leave_the_rest(
    bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(target: Path, *_: object, **__: object) -> None:
        raise OutputError(f"cannot write {target}: No space left on device")

    monkeypatch.setattr("drivetl.files.write_json", full)
    words = ["--detections", tmp_path / "a.jsonl", "--stats", tmp_path / "a.json"]
    result = run(make_video("in.mp4", [200]), "--model", bundle, *words)
    assert str(result.exception).endswith("No space left on device. All other results are kept")
    assert (tmp_path / "a.jsonl").is_file()


def test_passwords_stay_out_of_json(bundle: Path) -> None:
    result = run("http://me:geheim@127.0.0.1:9/live?key=geheim", "--model", bundle, "--json")
    assert isinstance(result.exception, DrivetlError)
    assert "geheim" not in f"{result.exception}{result.output}" and "does not open" in str(result.exception)


def test_names_in_another_encoding_reach_json(bundle: Path, tmp_path: Path) -> None:
    other = os.fsdecode(b"caf\xe9")
    folder, copy = tmp_path / other, tmp_path / f"bundle-{other}"
    folder.mkdir()
    shutil.copytree(bundle, copy)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 128, 3), 200, np.uint8))
    shutil.move(tmp_path / "a.png", folder / "a.png")
    words = ["--detections", folder / "a.jsonl", "--stats", folder / "a.json", "--compare", copy]
    command = [sys.executable, "-m", "drivetl", "video", folder, "--model", bundle, *words]
    done = subprocess.run([*command, "--json"], capture_output=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.decode("utf-8"))
    assert document["source"] == f"{tmp_path}/caf\\udce9" and document["frames_out"] == 1
    assert document["compared"]["model"] == "bundle-caf\\udce9"
    assert json.loads((folder / "a.json").read_bytes()) == document
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([*command, "--overwrite"], capture_output=True, cwd=PROJECT, env=strict)
    assert done.returncode == 0 and b"caf\\udce9/a.jsonl" in done.stdout, done.stderr


def test_words_for_people(bundle: Path, make_video: MakeVideo) -> None:
    source = make_video("in.mp4", [0, 100, 200], size_wh=(256, 128))
    result = run(source, "--model", bundle, "--confidence", "0.3", "--limit", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 frames, 256x128, ")
    assert re.search(r"^end to end +\d+\.\d +\d+\.\d$", result.stdout, re.MULTILINE)
    assert "detections over all frames: car 1\n" in result.stdout


@contextmanager
def own_signal(number: int, handler: Any) -> Iterator[None]:
    """Have a signal handled in a way of the test's own, however the tests themselves were started."""
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler, "the verb leaves it as it was"
    finally:
        signal.signal(number, before)


def signal_at_the_fourth_frame(number: int, monkeypatch: pytest.MonkeyPatch, *, times: int = 1) -> None:
    infer, calls = Detector.infer, []

    def signalled(self: Detector, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(tensor.shape)
        if 5 <= len(calls) < 5 + times:  # the first call is the warm-up
            signal.raise_signal(number)
        if len(calls) >= 5:
            time.sleep(0.05)  # the handler runs in the main thread
        return infer(self, tensor)

    monkeypatch.setattr(Detector, "infer", signalled)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_whoever_stops_the_program_gets_a_finished_file(
    name: str, bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_frames: Read
) -> None:
    number = getattr(signal, name)
    source = make_video("in.mp4", [200] * 40, size_wh=(256, 128))
    signal_at_the_fourth_frame(number, monkeypatch)
    with own_signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL):
        result = run(source, "--model", bundle, "--out", tmp_path / "out.mp4", "--json")
    assert result.exit_code == 128 + number
    document = json.loads(result.stdout)
    assert document["interrupted"] and 4 <= document["frames_out"] < 40
    assert len(read_frames(tmp_path / "out.mp4")) == document["frames_out"] == document["frames_in"]


def test_a_hangup_that_is_ignored_stays_so(
    bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video("in.mp4", [200] * 9, size_wh=(256, 128))
    signal_at_the_fourth_frame(signal.SIGHUP, monkeypatch)
    with own_signal(signal.SIGHUP, signal.SIG_IGN):  # as nohup does it
        result = run(source, "--model", bundle, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["frames_out"] == 9


def test_closing_the_window_is_a_good_end(
    bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_frames: Read
) -> None:
    shown: list[int] = []
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))  # the probe of the display
    for name in ("namedWindow", "resizeWindow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda *_: shown.append(1))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) >= 4 else -1)
    source = make_video("in.mp4", [200] * 100, size_wh=(256, 128))
    result = run(source, "--model", bundle, "--show", "--out", tmp_path / "out.mp4", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["interrupted"] and 4 <= document["frames_out"] < 100
    assert len(read_frames(tmp_path / "out.mp4")) == document["frames_out"]


def test_a_signal_after_the_last_frame_stops_nothing() -> None:
    verb._finish(Reporter("video", False), {"interrupted": False}, [], signal.SIGTERM)
    with pytest.raises(typer.Exit) as stopped:
        verb._finish(Reporter("video", False), {"interrupted": True}, [], signal.SIGTERM)
    assert stopped.value.exit_code == 143


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_comes_twice_still_leaves_a_finished_file(
    name: str, bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_frames: Read
) -> None:
    """``timeout`` sends SIGTERM to its child and to its group; a terminal that closes and its shell both hang up."""
    number = getattr(signal, name)
    source = make_video("in.mp4", [200] * 40, size_wh=(256, 128))
    signal_at_the_fourth_frame(number, monkeypatch, times=2)
    with own_signal(number, signal.default_int_handler):
        result = run(source, "--model", bundle, "--out", tmp_path / "out.mp4", "--json")
    assert result.exit_code == 128 + number
    assert 4 <= len(read_frames(tmp_path / "out.mp4")) == json.loads(result.stdout)["frames_out"] < 40


def test_sigterm_before_the_first_frame(
    bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return models(*arguments)

    models = verb._models
    monkeypatch.setattr(verb, "_models", opened)
    result = run(make_video("in.mp4", [200] * 4), "--model", bundle, "--out", tmp_path / "out.mp4")
    assert isinstance(result.exception, Stopped) and result.exception.exit_status == 143
    assert str(result.exception) == "stopped by SIGTERM; no frame was done yet, so there is nothing to keep"
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


# A model that takes a minute to open, in one call of a library, as an engine of TensorRT does.
SLOW = """
import ctypes, sys
import drivetl.runtime

def open_slowly(*_, **__):
    print("opening", file=sys.stderr, flush=True)
    ctypes.CDLL(None).sleep(60)

drivetl.runtime.Detector = open_slowly
from drivetl.cli import main
main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_the_models_open_ends_it_at_once(name: str, bundle: Path, make_video: MakeVideo) -> None:
    number = getattr(signal, name)
    words = [sys.executable, "-c", SLOW, "video", str(make_video("in.mp4", [0])), "--model", str(bundle), "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Ignored signals are inherited, and whoever started the tests may ignore one.
    with (
        own_signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL),
        subprocess.Popen(words, text=True, cwd=PROJECT, **pipes) as child,
    ):
        assert child.stderr is not None
        while "opening" not in child.stderr.readline():
            pass
        child.send_signal(number)
        began = time.perf_counter()
        out, said = child.communicate(timeout=50)
        assert time.perf_counter() - began < 20
    message = (
        "interrupted" if name == "SIGINT" else f"stopped by {name}; no frame was done yet, so there is nothing to keep"
    )
    assert child.returncode == 128 + number
    assert json.loads(out)["error"] == {"message": message, "exit_status": 128 + number}
    assert said.endswith(f"drivetl: error: {message}\n") and "Traceback" not in said


def test_what_fails_while_the_models_open_is_told_as_ever(make_video: MakeVideo, tmp_path: Path) -> None:
    result = run(make_video("in.mp4", [0]), "--model", tmp_path / "nowhere")
    assert isinstance(result.exception, DrivetlError) and "not a bundle folder" in str(result.exception)


def test_a_terminal_that_is_gone_takes_no_words(
    bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_frames: Read
) -> None:
    def gone(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    source = make_video("in.mp4", [200] * 40, size_wh=(256, 128))
    signal_at_the_fourth_frame(signal.SIGHUP, monkeypatch)
    monkeypatch.setattr(verb.Reporter, "finish", gone)
    with own_signal(signal.SIGHUP, signal.SIG_DFL):
        result = run(source, "--model", bundle, "--out", tmp_path / "out.mp4")
    assert result.exit_code == 129 and len(read_frames(tmp_path / "out.mp4")) >= 4


@pytest.mark.parametrize(("twice_s", "kept"), [(0.0, ["in.mp4"]), (60.0, ["in.mp4", "out.mp4"])])
def test_ctrl_c_twice_drops_the_file_unless_it_comes_faster_than_anybody_presses(
    twice_s: float,
    kept: list[str],
    bundle: Path,
    make_video: MakeVideo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("drivetl.verbs._signals._TWICE_S", twice_s)
    source = make_video("in.mp4", [200] * 40, size_wh=(256, 128))

    def impatient(self: Detector, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.1)
            signal.raise_signal(signal.SIGINT)
        calls.append(tensor.shape)
        return infer(self, tensor)

    infer, calls = Detector.infer, []
    monkeypatch.setattr(Detector, "infer", impatient)
    result = run(source, "--model", bundle, "--out", tmp_path / "out.mp4")
    assert result.exit_code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_bad_input_is_one_sentence_and_exit_2(bundle: Path, make_video: MakeVideo, tmp_path: Path) -> None:
    cut = make_video("cut.avi", [0] * 20, four_cc="MJPG", noise=True)
    cut.write_bytes(cut.read_bytes()[:-2000])
    words = [str(cut), "--model", str(bundle), "--out", str(tmp_path / "out.mp4")]
    done = subprocess.run(
        [sys.executable, "-m", "drivetl", "video", *words], capture_output=True, text=True, cwd=PROJECT
    )
    assert (done.returncode, done.stdout) == (2, "")
    sentences = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(sentences) == 1
    assert sentences[0].startswith("drivetl: error: ") and "is cut off" in sentences[0]
    assert [path.name for path in tmp_path.iterdir()] == ["cut.avi"]


def test_neither_torch_nor_ultralytics_is_loaded(bundle: Path, make_video: MakeVideo) -> None:
    source = make_video("in.mp4", [0, 200])
    code = (
        "import sys; from drivetl.runtime import Detector; from drivetl.video import Model, run_video; "
        f"r = run_video({str(source)!r}, [Model(Detector({str(bundle)!r}))]); "
        "print(r.frames_out, {'torch', 'ultralytics', 'albumentations', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout == "2 set()\n"


@pytest.mark.material
def test_highway(material: Path, tmp_path: Path) -> None:
    """Cars on a motorway: seen in nearly every frame, and without the flicker that a wrong letterbox gives."""
    from drivetl.deploy import export
    from drivetl.video import Model, Outputs, VideoSettings, run_video

    export(material / "weights/yolo11n.pt", tmp_path / "bundle", size_hw=(384, 640))
    detector = Detector(tmp_path / "bundle")
    counts = []
    postprocess = detector.postprocess

    def counted(*words: Any, **options: Any) -> Any:
        detections = postprocess(*words, **options)
        counts.append(int((detections.class_id == 2).sum()))
        return detections

    detector.postprocess = counted  # type: ignore[method-assign]
    settings = VideoSettings(limit=40)
    source = str(material / "video/highway-day.mp4")
    result = run_video(source, [Model(detector)], Outputs(tmp_path / "out.mp4"), settings)
    assert (result.frames_out, result.size_wh, result.source_fps) == (40, (960, 540), 25.0)
    assert min(counts) >= 2
    assert np.abs(np.diff(counts)).mean() < 1.5
