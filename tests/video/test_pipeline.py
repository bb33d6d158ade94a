from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from drivetl.deploy.graph import preprocess_in_graph
from drivetl.errors import ImageError, OutputError, VideoError
from drivetl.files import sha256_file, write_json
from drivetl.progress import Progress, silent
from drivetl.runtime import Detector
from drivetl.runtime.contract import METADATA_KEY
from drivetl.video import STAGES, Around, Model, Outputs, VideoResult, VideoSettings
from drivetl.video import run_video as run_models

MakeVideo = Callable[..., Path]
Grey = Callable[..., NDArray[np.uint8]]
Read = Callable[[Path], list[NDArray[np.uint8]]]
# The bundle of the tests says "car" with the brightness of the frame, and "person" with half of it: at the threshold
# of 0.25 a car from level 64, a person from level 128.
LEVELS = [0, 40, 100, 110, 200, 255]


def run_video(
    source: str,
    detector: Detector,
    out: Path | None,
    settings: VideoSettings | None = None,
    *,
    overwrite: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> VideoResult:
    """One model, no tracks unless asked for: what the bundle of the tests says is then known for every frame."""
    settings = settings or VideoSettings()
    if settings.track is None:
        settings = settings.model_copy(update={"track": False})
    outputs = Outputs(out, overwrite=overwrite)
    return run_models(source, [Model(detector, "known")], outputs, settings, Around(stopped, progress))


@pytest.fixture
def video(make_video: MakeVideo) -> Path:
    return make_video("in.mp4", LEVELS, size_wh=(256, 128))


def coloured(pixel: NDArray[np.uint8]) -> bool:
    """Whether a line of a box runs here: the frames are grey, and the codec softens thin lines."""
    return int(pixel.max()) - int(pixel.min()) > 50


def test_every_frame_is_detected_drawn_and_written(
    video: Path, detector: Detector, tmp_path: Path, read_frames: Read
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    out = tmp_path / "out.mp4"
    result = run_video(
        str(video),
        detector,
        out,
        progress=lambda label, done, total: seen.append((label, done, total)),
    )
    assert (result.frames_in, result.frames_out, result.dropped) == (6, 6, 0)
    assert result.per_class == {"car": 4, "person": 2}
    assert (result.size_wh, result.source_fps, result.interrupted) == ((256, 128), 25.0, False)
    # It is told again where a tenth of a second passes without a frame.
    assert [told for told, _ in itertools.groupby(seen)] == [("frames", done, 6) for done in range(7)]
    frames = read_frames(out)
    assert [frame.shape for frame in frames] == [(128, 256, 3)] * 6
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == 25.0
    # The car's box in the input is x 4..28, y 8..24, and a frame is four times as large.
    for frame, level in zip(frames, LEVELS, strict=True):
        assert coloured(frame[64, 16]) == (level >= 64)
        assert coloured(frame[64, 176]) == (level >= 128)


def test_a_bundle_that_preprocesses_in_the_graph_gives_the_same(
    video: Path, detector: Detector, bundle: Path, tmp_path: Path
) -> None:
    model = onnx.load(str(bundle / "model.onnx"))
    preprocess_in_graph(model)
    contract = replace(detector.contract, input_name="images_bgr", input_dtype="uint8")
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(contract.metadata_document())})
    inside = tmp_path / "inside"
    inside.mkdir()
    onnx.save(model, str(inside / "model.onnx"))
    contract = replace(contract, model_sha256=sha256_file(inside / "model.onnx"))
    write_json(inside / "contract.json", contract.document())
    lines = []
    for name, one in (("outside", detector), ("inside", Detector(inside))):
        outputs = Outputs(tmp_path / f"{name}.mp4", tmp_path / f"{name}.jsonl")
        run_models(str(video), [Model(one, "known")], outputs, VideoSettings(track=False), Around())
        lines.append((tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    boxes = [[json.loads(line).get("detections") for line in found] for found in lines]
    assert boxes[0] == boxes[1] and any(boxes[0])


def test_latency_of_every_stage(video: Path, detector: Detector, tmp_path: Path) -> None:
    result = run_video(str(video), detector, tmp_path / "out.mp4")
    assert set(result.latency_ms) == set(STAGES) - {"weather", "track", "age"}
    assert all(0 < figures["p50"] <= figures["p99"] < 10_000 for figures in result.latency_ms.values())
    parts = sum(result.latency_ms[stage]["p50"] for stage in ("preprocess", "inference", "postprocess"))
    assert result.latency_ms["end_to_end"]["p99"] >= parts * 0.5
    assert result.fps > 0
    bare = run_video(str(video), detector, None)
    assert set(bare.latency_ms) == set(result.latency_ms) - {"draw", "write"}
    assert bare.codec is None


def test_settings(video: Path, detector: Detector, tmp_path: Path) -> None:
    sure = run_video(str(video), detector, None, VideoSettings(confidence=0.7))
    assert sure.per_class == {"car": 2}
    short = run_video(str(video), detector, tmp_path / "out.mp4", VideoSettings(limit=3))
    assert (short.frames_in, short.frames_out, short.interrupted) == (3, 3, False)


def test_folder_of_pictures_of_several_sizes(tmp_path: Path, detector: Detector, grey: Grey, read_frames: Read) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), grey(0, (256, 128)))
    cv2.imwrite(str(folder / "2.png"), grey(200, (128, 64)))
    cv2.imwrite(str(folder / "10.png"), grey(200, (512, 256)))
    result = run_video(str(folder), detector, tmp_path / "out.mp4", VideoSettings(picture_fps=8))
    assert (result.size_wh, result.source_fps, result.per_class) == ((256, 128), 8.0, {"car": 2, "person": 2})
    assert "2 frames of another size were fitted into 256x128" in result.notes
    frames = read_frames(tmp_path / "out.mp4")
    assert [coloured(frame[64, 16]) for frame in frames] == [False, True, True]


def test_one_pixel(tmp_path: Path, detector: Detector, grey: Grey, read_frames: Read) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), grey(255, (1, 1)))
    result = run_video(str(tmp_path), detector, tmp_path / "out.mp4")
    assert (result.frames_out, result.size_wh) == (1, (1, 1))
    assert len(read_frames(tmp_path / "out.mp4")) == 1


def test_stopped_in_the_middle_keeps_what_there_is(
    video: Path, detector: Detector, tmp_path: Path, read_frames: Read
) -> None:
    asked = iter([False, False, False, True])
    result = run_video(str(video), detector, tmp_path / "out.mp4", stopped=lambda: next(asked))
    assert (result.frames_out, result.interrupted) == (3, True)
    assert len(read_frames(tmp_path / "out.mp4")) == 3


def test_stopped_before_the_first_frame_keeps_nothing(video: Path, detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_video(str(video), detector, tmp_path / "out.mp4", stopped=lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_video_that_ends_in_the_middle_of_a_frame(
    make_video: MakeVideo, detector: Detector, tmp_path: Path, read_frames: Read
) -> None:
    cut = make_video("cut.avi", [200] * 30, four_cc="MJPG", noise=True)
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="is cut off"):
        run_video(str(cut), detector, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.avi"]
    result = run_video(str(cut), detector, tmp_path / "out.mp4", VideoSettings(allow_truncated=True))
    assert 5 < result.frames_out < 30
    assert len(read_frames(tmp_path / "out.mp4")) == result.frames_out
    assert "is cut off" in result.notes[0]


@pytest.fixture
def damaged(tmp_path: Path, grey: Grey) -> Path:
    """Five pictures, the third cut off."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f"{index}.png"), grey(200))
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:-20])
    return folder


def test_before_a_picture_that_cannot_be_read_all_is_kept(
    damaged: Path, tmp_path: Path, detector: Detector, read_frames: Read
) -> None:
    message = r"2\.png' ends .*\. With --allow-truncated such .*\. What came of the 2 frames before it is kept$"
    with pytest.raises(ImageError, match=message):
        run_video(str(damaged), detector, tmp_path / "out.mp4")
    assert len(read_frames(tmp_path / "out.mp4")) == 2
    (tmp_path / "out.mp4").unlink()
    (damaged / "0.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"0\.png' .* such pictures are left out$"):
        run_video(str(damaged), detector, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_pictures_that_cannot_be_read_may_be_left_out(damaged: Path, tmp_path: Path, detector: Detector) -> None:
    """Those behind keep their times, so that one knows which picture a line of the detections speaks of."""
    allowed = VideoSettings(track=False, allow_truncated=True)
    result = run_models(str(damaged), [Model(detector)], Outputs(detections=tmp_path / "a.jsonl"), allowed)
    assert (result.frames_in, result.frames_out, result.dropped, result.unreadable) == (4, 4, 0, 1)
    times_s = [json.loads(line)["time_s"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert times_s == pytest.approx([0.0, 0.1, 0.3, 0.4])
    assert "1 of 5 pictures cannot be read and were left out; the first: '" in result.notes[0]
    for picture in damaged.iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"none of the 5 pictures can be read; the first: '.*0\.png'"):
        run_video(str(damaged), detector, None, allowed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.jpg", r"must end in \.mp4, \.mov or \.mkv"),
        ("out", r"must end in"),
        ("there.mp4", r"there\.mp4' exists; pass --overwrite"),
        ("folder.mp4", "is a folder"),
        ("in.mp4", "is the source itself"),
    ],
)
def test_outputs_that_are_refused(video: Path, detector: Detector, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "there.mp4").write_text("precious")
    (tmp_path / "folder.mp4").mkdir()
    before = video.read_bytes()
    with pytest.raises(OutputError, match=message):
        run_video(str(video), detector, tmp_path / name, overwrite=name == "in.mp4")
    assert (tmp_path / "there.mp4").read_text() == "precious"
    assert video.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_overwrite(video: Path, detector: Detector, tmp_path: Path, read_frames: Read) -> None:
    (tmp_path / "out.mp4").write_text("old")
    run_video(str(video), detector, tmp_path / "out.mp4", overwrite=True)
    assert len(read_frames(tmp_path / "out.mp4")) == 6


def test_a_machine_without_display(
    video: Path, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(VideoError, match="--show cannot open a window: there is no display"):
        run_video(str(video), detector, tmp_path / "out.mp4", VideoSettings(show=True))
    assert not (tmp_path / "out.mp4").exists()
