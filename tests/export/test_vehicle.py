"""The vehicle's program: it tests itself first, needs only the runtime, and never goes on with a broken bundle."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from packaging.requirements import Requirement

from drivetl.deploy.golden import write_golden
from drivetl.runtime import Detector

FOLDER = Path(__file__).resolve().parents[2] / "export" / "vehicle"
# What the base install brings for the command line, and the car does not have.
ABSENT = ("typer", "rich", "pydantic", "yaml", "torch", "ultralytics", "onnx")


@pytest.fixture
def bundle(tiny_bundle: Callable[..., Path]) -> Path:
    folder = tiny_bundle()
    write_golden(Detector(folder), None, folder)
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 128))
    for level in (0, 255, 0):
        writer.write(np.full((128, 128, 3), level, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_bundle", FOLDER / "run_bundle.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import runpy, sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n"  # importing one of them fails
        f"sys.argv = {['run_bundle', *words]!r}\nrunpy.run_path({str(FOLDER / 'run_bundle.py')!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parents[1])


def test_it_tests_itself_then_gives_a_line_for_every_frame(bundle: Path, clip: Path) -> None:
    done = _run(str(bundle), "--source", str(clip), "--budget-ms", "60000")
    assert done.returncode == 0, done.stderr
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["self_test"]["passed"] is True
    assert [line["frame"] for line in lines[1:-1]] == [0, 1, 2]
    assert [len(line["detections"]) for line in lines[1:-1]] == [0, 64, 0]
    assert lines[2]["detections"][0]["class"] == "bright" and lines[2]["detections"][0]["confidence"] > 0.98
    assert [line["dropped"] for line in lines[1:-1]] == [0, 0, 0]
    assert lines[-1] == {"frames": 3, "dropped": 0, "late": 0}


def test_golden_frames_that_fail_stop_it_with_status_1_before_the_first_frame(bundle: Path, clip: Path) -> None:
    expected = bundle / "golden" / "expected.json"
    document = json.loads(expected.read_text(encoding="utf-8"))
    document["frames"][0]["detections"][0]["xyxy_px"] = [0, 0, 9, 9]
    expected.write_text(json.dumps(document), encoding="utf-8")
    done = _run(str(bundle), "--source", str(clip))
    assert done.returncode == 1 and "1 missing" in done.stderr and done.stderr.count("\n") == 1
    assert len(done.stdout.splitlines()) == 1 and "frame" not in json.loads(done.stdout)


def test_what_cannot_be_used_is_one_sentence(
    bundle: Path, tmp_path: Path, program: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.main([str(tmp_path / "nowhere")]) == 2
    assert "not a bundle folder" in capfd.readouterr().err
    assert program.main([str(bundle), "--source", str(tmp_path / "no.mp4")]) == 2
    assert "cannot be opened" in capfd.readouterr().err
    for source in ("²", "99999999999"):
        assert program.main([str(bundle), "--source", source]) == 2
        assert f"'{source}' cannot be opened" in capfd.readouterr().err
    with pytest.raises(SystemExit) as refused:
        program.main([str(bundle), "--threads", "3000000000"])
    assert refused.value.code == 2 and "no number from 0 to 1024" in capfd.readouterr().err
    assert program.main([str(bundle), "--source", "rtsp://me:geheim@127.0.0.1:9/live?key=geheim"]) == 2
    said = capfd.readouterr().err
    assert "rtsp://…@127.0.0.1:9/live?…' cannot be opened" in said and "geheim" not in said


@pytest.mark.parametrize("source", ["rtspsrc user-pw=geheim ! appsink", "rtsp://me:ge%20heim@127.0.0.1:9/live"])
def test_neither_it_nor_opencv_prints_a_password(source: str, bundle: Path) -> None:
    done = _run(str(bundle), "--source", source)
    assert done.returncode == 2 and "cannot be opened" in done.stderr and "heim" not in done.stderr


def test_a_gpu_that_fails_on_the_road_ends_it_with_status_2_and_one_sentence(
    bundle: Path, clip: Path, program: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Detector(bundle).session
    runs = iter(range(99))

    def run(*words: Any) -> Any:
        if next(runs) < 2:  # the self-test and the first frame
            return session.ort_session.run(*words)
        raise RuntimeError(
            "CUDA failure 2: out of memory ; GPU=0 ; hostname=car ; file=/a.cc ; line=9 ; expr=cudaMalloc"
        )

    failing = replace(session, provider="cuda", ort_session=SimpleNamespace(run=run))
    monkeypatch.setattr("drivetl.runtime.bundle.Bundle.session", lambda self, provider, **_: failing)
    assert program.main([str(bundle), "--source", str(clip), "--provider", "cuda"]) == 2
    said = capfd.readouterr()
    assert len(said.out.splitlines()) == 2
    assert said.err.startswith("run_bundle: the GPU failed when cuda was to run the graph")
    assert "'CUDA failure 2: out of memory ; GPU=0'; see" in said.err and said.err.count("\n") == 1


def test_a_file_may_have_a_pipeline_s_letters_in_its_name(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "road!.mp4").touch()
    assert program._is_file(str(tmp_path / "road!.mp4")) and not program._is_file("a\0b")


@pytest.mark.parametrize("budget", ["nan", "-5", "0", "inf", "soon"])
def test_a_budget_is_a_positive_number(budget: str, program: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        program.main(["bundle", f"--budget-ms={budget}"])
    assert refused.value.code == 2 and f"'{budget}' is no positive number of milliseconds" in capfd.readouterr().err


def test_what_takes_minutes_is_said_before_it_begins(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said = []

    def build(*_: Any, **__: Any) -> None:
        said.append(capfd.readouterr().err)
        raise program.VideoError("enough")

    monkeypatch.setattr(program, "Detector", build)
    monkeypatch.setattr(program, "missing_for", lambda provider: None)
    for words in (["--provider", "tensorrt"], ["--provider", "tensorrt", "--engine-cache", "kept"], []):
        assert program.main(["bundle", *words]) == 2
        assert capfd.readouterr().err == "run_bundle: enough\n"
    begun = "run_bundle: TensorRT builds its engine now, "
    assert said == [
        f"{begun}at every start without --engine-cache FOLDER; that may take minutes\n",
        f"{begun}unless it lies in 'kept'; that may take minutes\n",
        "",
    ]
    assert program.main(["bundle", "--engine-cache", "kept"]) == 2 and len(said) == 3
    assert "--engine-cache keeps engines of TensorRT, and cpu has none" in capfd.readouterr().err
    monkeypatch.setattr(program, "missing_for", lambda provider: "no NVIDIA driver")
    assert program.main(["bundle", "--provider", "tensorrt"]) == 2 and said[3:] == [""]


def test_a_recording_that_was_cut_off_is_no_whole_one(program: ModuleType) -> None:
    def capture(stated: int, held: int, last_ms: float = 0.0) -> Any:
        frames = [np.zeros((2, 2, 3), np.uint8)] * held
        facts = {cv2.CAP_PROP_FRAME_COUNT: stated, cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_POS_MSEC: last_ms}
        return SimpleNamespace(read=lambda: (True, frames.pop()) if frames else (False, None), get=facts.__getitem__)

    path = Path("no/a.mp4")
    # What a container states may be a little more than it holds, and is an estimate where frames are unevenly spaced.
    for stated, held, last_ms in ((-1, 19, 0), (0, 19, 0), (19, 19, 0), (20, 19, 0), (38, 12, 1400)):
        assert len(list(program._all(capture(stated, held, last_ms), "a.mp4", path))) == held
    given = program._all(capture(221, 23, 880), "a.mp4", path)
    with pytest.raises(program.VideoError, match=r"'a\.mp4' was cut off after 23 of about 221 frames; copy it again"):
        assert len([next(given) for _ in range(23)]) == 23 and next(given)


def test_a_file_that_lost_its_end_is_told_by_its_structure(program: ModuleType, clip: Path) -> None:
    whole = clip.read_bytes()
    assert len(list(program._pictures(str(clip)))) == 3
    clip.write_bytes(whole[:-1])
    given = program._pictures(str(clip))
    with pytest.raises(program.VideoError, match=rf"cut off after 3 frames: it has {len(whole) - 1} of {len(whole)}"):
        assert len([next(given) for _ in range(3)]) == 3 and next(given)


@pytest.mark.parametrize("form", ["file://{}", "FILE:{}", "file://localhost{}", "file:///{}"])
def test_every_frame_of_a_recording_behind_a_file_url(form: str, program: ModuleType, clip: Path) -> None:
    road = clip.rename(clip.with_name("my road.avi"))
    for path in (str(road), str(road).replace(" ", "%20")):
        assert len(list(program._pictures(form.format(path)))) == 3


def test_of_a_camera_the_newest_frame_counts_and_a_failed_read_is_the_end(program: ModuleType) -> None:
    frames = iter([np.full((2, 2, 3), level, np.uint8) for level in range(3)])

    def read() -> tuple[bool, Any]:
        image = next(frames, None)
        return image is not None, image

    seen = []
    with pytest.raises(program.VideoError, match="stopped sending"):
        for image, _ in program._newest(SimpleNamespace(read=read), "0"):
            seen.append(int(image[0, 0, 0]))
    assert seen == sorted(seen) and len(seen) <= 3


def test_a_camera_s_frames_that_nobody_had_time_for_are_counted(program: ModuleType) -> None:
    import threading

    taken, all_came, over = threading.Event(), threading.Event(), threading.Event()
    levels = iter(range(6))

    def read() -> tuple[bool, Any]:
        level = next(levels)
        if level == 1:
            assert taken.wait(10)  # the first frame is taken; while it is looked at, four more come
        if level == 5:
            all_came.set()
            return not over.wait(10), None
        return True, np.full((2, 2, 3), level, np.uint8)

    given = program._newest(SimpleNamespace(read=read), "0")
    first, missed = next(given)
    assert (first[0, 0, 0], missed) == (0, 0)
    taken.set()
    assert all_came.wait(10)
    newest, missed = next(given)
    assert (newest[0, 0, 0], missed) == (4, 3)
    over.set()
    with pytest.raises(program.VideoError, match="stopped sending"):
        next(given)


SOURCES = {
    "0": True,
    "/dev/video0": True,
    "nvarguscamerasrc ! video/x-raw(memory:NVMM) ! appsink": True,
    f"nvarguscamerasrc ! {'queue ! ' * 100}appsink": True,
    "rtsp://c/a%20b": True,
    "frame_%04d.png": False,
    __file__: False,
}


@pytest.mark.parametrize(("source", "live"), SOURCES.items())
def test_only_a_recording_may_end(
    source: str, live: bool, program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [np.zeros((2, 2, 3), np.uint8)]

    def read() -> tuple[bool, Any]:
        return (True, frames.pop()) if frames else (False, None)

    capture = SimpleNamespace(read=read, isOpened=lambda: True, release=lambda: None, get=lambda what: 0.0)
    monkeypatch.setattr(program.cv2, "VideoCapture", lambda _: capture)
    if live:
        with pytest.raises(program.VideoError, match="stopped sending"):
            list(program._pictures(source))
    else:
        assert len(list(program._pictures(source))) == 1


def test_a_reader_that_has_enough_is_no_error(bundle: Path, clip: Path) -> None:
    command = [sys.executable, str(FOLDER / "run_bundle.py"), str(bundle), "--source", str(clip)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait() == 0


def test_a_camera_that_hangs_is_reported(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(program, "_STALLED_S", 0.05)
    hang = threading.Event()
    before = set(threading.enumerate())
    with pytest.raises(program.VideoError, match="no frame for"):
        next(program._newest(SimpleNamespace(read=lambda: (hang.wait(1), None)), "0"))
    hang.set()
    # Once the camera answers, its reader ends: left alone it would read for ever and take a core from the car.
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_the_requirements_leave_onnxruntime_to_the_board() -> None:
    lines = (FOLDER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.partition(">")[0] for line in lines if line and not line.startswith("#")]
    assert wanted == ["numpy", "opencv-python-headless"]


# What writes the module of a package that the lists name, or leave to the board, where the tests run.
HERE = {"opencv-python-headless": "opencv-python", "onnxruntime": "onnxruntime-gpu"}


def _listed(name: str) -> list[Requirement]:
    """Return what a list for the vehicle names, with the lists that it includes."""
    found: list[Requirement] = []
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        words = line.partition("#")[0].strip()
        if words.startswith("-r "):
            found += _listed(words.removeprefix("-r ").strip())
        elif words:
            found.append(Requirement(words))
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _brought(names: list[str]) -> set[str]:
    """Return the distributions that pip installs for these, as far as they are installed here."""
    here = {_canonical(found.name) for found in metadata.distributions()}
    brought: set[str] = set()
    waiting = [*names, *(HERE[name] for name in names if name in HERE)]
    while waiting:
        name = _canonical(waiting.pop())
        if name in here and name not in brought:
            brought.add(name)
            needed = map(Requirement, metadata.requires(name) or ())
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return brought


def _bench_on_a_board(bundle: Path, requirements: str) -> subprocess.CompletedProcess[str]:
    """Run ``drivetl bench`` where nothing can be imported but what a list, ONNX Runtime and drivetl itself bring."""
    brought = _brought([*(one.name for one in _listed(requirements)), "onnxruntime"])
    absent = [
        module
        for module, owners in metadata.packages_distributions().items()
        if module != "drivetl" and not brought & {_canonical(owner) for owner in owners}
    ]
    assert {"torch", "ultralytics", "onnx"} <= set(absent) and not {"numpy", "cv2", "onnxruntime"} & set(absent)
    words = ["drivetl", "bench", str(bundle), "--profile", "x86-cpu", "--iterations", "5", "--paced-hz", "100"]
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\nsys.argv = {words!r}\n"
        "from drivetl.__main__ import main\nmain()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parents[1])


def test_its_list_for_bench_holds_what_bench_imports(bundle: Path) -> None:
    done = _bench_on_a_board(bundle, "requirements-bench.txt")
    assert done.returncode in (0, 1) and "end_to_end" in done.stdout, done.stderr  # 1: a busy machine is over budget
    without = _bench_on_a_board(bundle, "requirements.txt")
    assert "import of typer halted" in without.stderr and not without.stdout


def test_its_lists_are_the_base_install_without_its_onnxruntime() -> None:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {one.name: one.specifier for one in map(Requirement, project["dependencies"])}
    wanted = {name: limit for name, limit in base.items() if not name.startswith("onnxruntime")}
    wanted["opencv-python-headless"] = wanted.pop("opencv-python")
    assert {one.name: one.specifier for one in _listed("requirements-bench.txt")} == wanted
