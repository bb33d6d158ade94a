"""What a run leaves behind besides the video, and what it does with two models, weather, classes and live sources."""

from __future__ import annotations

import contextlib
import json
import pkgutil
import re
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.errors import ConfigError, OutputError
from drivetl.files import writing
from drivetl.runtime import Detections, Detector
from drivetl.video import Around, Model, Outputs, VideoSettings, run_video
from drivetl.video.lane import Job, View
from drivetl.video.outputs import check_outputs
from drivetl.video.stills import STILLS_LIST, Stills, interest
from drivetl.video.tracking import untracked
from drivetl.video.weathered import VideoWeather

MakeVideo = Callable[..., Path]
Grey = Callable[..., NDArray[np.uint8]]
Read = Callable[[Path], list[NDArray[np.uint8]]]
PLAIN = VideoSettings(track=False)


@pytest.fixture
def video(make_video: MakeVideo) -> Path:
    return make_video("in.mp4", [0, 100, 100, 200, 200, 200], size_wh=(256, 128))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_detections_as_lines_and_tracks_as_text(video: Path, detector: Detector, tmp_path: Path) -> None:
    outputs = Outputs(detections=tmp_path / "a.jsonl", mot=tmp_path / "a.txt")
    result = run_video(str(video), [Model(detector)], outputs)
    found = lines(tmp_path / "a.jsonl")
    assert [line["frame"] for line in found] == list(range(6))
    assert [line["time_s"] for line in found] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])
    assert found[0]["detections"] == []
    car, person = found[5]["detections"]
    assert (car["class"], person["class"]) == ("car", "person")
    # The car's box in the input is x 4..28, y 8..24, and a frame is four times as large.
    assert car["xyxy_px"] == pytest.approx([16, 32, 112, 96], abs=0.1)
    assert car["confidence"] == pytest.approx(200 / 255, abs=0.02)
    assert [line["detections"][0]["track"] for line in found[1:]] == [None, 0, 0, 0, 0]
    assert result.tracks == {"car": 1, "person": 1}
    rows = [row.split(",") for row in (tmp_path / "a.txt").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["3", "1"], ["4", "1"], ["5", "1"], ["5", "2"], ["6", "1"], ["6", "2"]]
    assert [float(value) for value in rows[0][2:6]] == pytest.approx([17, 33, 96, 64], abs=0.1)


def test_detections_stay_in_pixels_of_the_frame_they_come_from(tmp_path: Path, detector: Detector, grey: Grey) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), grey(200, (256, 128)))
    cv2.imwrite(str(folder / "2.png"), grey(200, (128, 64)))
    run_video(str(folder), [Model(detector)], Outputs(detections=tmp_path / "a.jsonl"))
    large, small = (line["detections"][0]["xyxy_px"] for line in lines(tmp_path / "a.jsonl"))
    assert [line["size_wh"] for line in lines(tmp_path / "a.jsonl")] == [[256, 128], [128, 64]]
    assert np.array(small) * 2 == pytest.approx(large, abs=0.1)


def test_files_that_stand_there_are_kept(video: Path, detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("precious")
    with pytest.raises(OutputError, match=r"a\.jsonl' exists; pass --overwrite"):
        run_video(str(video), [Model(detector)], Outputs(tmp_path / "out.mp4", tmp_path / "a.jsonl"))
    assert (tmp_path / "a.jsonl").read_text() == "precious" and not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("prefix", ["file://", "file://localhost", "file:", "FILE://"])
def test_a_recording_named_by_a_file_url_is_not_replaced(
    prefix: str, make_video: MakeVideo, detector: Detector, tmp_path: Path
) -> None:
    source = make_video("my film.mp4", [100, 200])
    before, url = source.read_bytes(), prefix + str(source).replace(" ", "%20")
    with pytest.raises(OutputError, match=r"my film\.mp4' is the source itself"):
        run_video(url, [Model(detector)], Outputs(source, overwrite=True), PLAIN)
    assert source.read_bytes() == before
    assert run_video(url, [Model(detector)], None, PLAIN).source == str(source)


def test_boxes_below_the_threshold_say_that_they_bridge(
    make_video: MakeVideo, detector: Detector, tmp_path: Path
) -> None:
    """The car's confidence is that of the grey level: above 0.5, for six frames below it, above it again."""
    source = make_video("in.mp4", [200] * 5 + [90] * 6 + [200] * 4, size_wh=(256, 128))
    settings = VideoSettings(confidence=0.5, classes=("car",))
    tracked = settings.model_copy(update={"track": True})
    result = run_video(str(source), [Model(detector)], Outputs(detections=tmp_path / "a.jsonl"), tracked)
    cars = [line["detections"][0] for line in lines(tmp_path / "a.jsonl")]
    assert [car["bridged"] for car in cars] == [False] * 5 + [True] * 6 + [False] * 4
    assert all((car["confidence"] <= 0.5) == car["bridged"] for car in cars)
    assert {car["track"] for car in cars[1:]} == {0} and result.per_class == {"car": 15}
    plain = settings.model_copy(update={"track": False})
    run_video(str(source), [Model(detector)], Outputs(detections=tmp_path / "b.jsonl"), plain)
    found = [line["detections"] for line in lines(tmp_path / "b.jsonl")]
    assert [len(detections) for detections in found] == [1] * 5 + [0] * 6 + [1] * 4
    assert not any(car["bridged"] for detections in found for car in detections)


def test_only_some_classes(video: Path, detector: Detector) -> None:
    only = VideoSettings(track=False, classes=("person",))
    assert run_video(str(video), [Model(detector)], None, only).per_class == {"person": 3}
    known = [Model(detector, "known")]
    unknown = r"names 'persom', which the model 'known' does not know; did you mean 'person'\? Known are: car, person$"
    with pytest.raises(ConfigError, match=unknown):
        run_video(str(video), known, None, VideoSettings(classes=("persom",)))
    with pytest.raises(ConfigError, match=r"'dinosaur', which .* 'known' does not know; known are: car, person$"):
        run_video(str(video), known, None, VideoSettings(classes=("dinosaur",)))


def test_a_class_that_either_model_knows(video: Path, bundle: Path, tmp_path: Path) -> None:
    """As after adaptation, when the new model has classes that the old one never heard of."""
    models, said = [Model(Detector(bundle, threads=1), "before"), Model(Detector(bundle, threads=1), "after")], []
    models[1].detector._contract = replace(models[1].detector.contract, class_names=("van", "person"))
    for classes, counts in (
        (("van",), ({}, {"van": 5})),
        (("car",), ({"car": 5}, {})),
        (("van", "person"), ({"person": 3}, {"van": 5, "person": 3})),
    ):
        wanted = VideoSettings(track=False, classes=classes)
        result = run_video(str(video), models, Outputs(tmp_path / f"{classes[0]}.mp4", overwrite=True), wanted)
        assert result.compared is not None
        assert (result.per_class, result.compared["per_class"]) == counts
    run_video(str(video), models, None, wanted, Around(say=said.append))
    assert said == ["note: the model 'before' does not know 'van' of --classes"]
    neither = r"names 'vam', which neither 'before' nor 'after' knows; did you mean 'van'\? Known are: car, pers"
    with pytest.raises(ConfigError, match=neither):
        run_video(str(video), models, None, VideoSettings(classes=("person", "vam")))


def test_two_models_side_by_side(video: Path, bundle: Path, tmp_path: Path, read_frames: Read) -> None:
    models = [Model(Detector(bundle, threads=1), "before"), Model(Detector(bundle, threads=1), "after")]
    infer = models[1].detector.infer
    models[1].detector.infer = lambda tensor: infer(tensor) * 0.5  # type: ignore[method-assign]
    outputs = Outputs(tmp_path / "out.mp4", tmp_path / "a.jsonl")
    result = run_video(str(video), models, outputs, PLAIN)
    assert result.per_class == {"car": 5, "person": 3}
    assert result.compared is not None and result.compared["model"] == "after"
    assert result.compared["per_class"] == {"car": 3}
    assert result.compared["latency_ms"]["end_to_end"]["p50"] > 0
    frame = read_frames(tmp_path / "out.mp4")[2]
    assert frame.shape == (128, 512, 3)
    coloured = (frame.max(axis=2).astype(int) - frame.min(axis=2) > 50).sum(axis=0)
    assert coloured[:256].sum() > 200 and coloured[256:].sum() == 0  # at level 100 the second model sees nothing
    last = lines(tmp_path / "a.jsonl")[-1]["models"]
    assert [(entry["model"], len(entry["detections"])) for entry in last] == [("before", 2), ("after", 1)]


def test_the_bar_is_whole_from_the_first_frame_on(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grey: Grey
) -> None:
    bars: list[tuple[tuple[str, ...], str]] = []

    def noting(*_: Any, figures: tuple[str, ...], badge: str = "", **__: Any) -> None:
        bars.append((figures, badge))

    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), grey(200, (256, 128)))
    monkeypatch.setattr("drivetl.video.lane.annotate", noting)
    result = run_video(str(folder), [Model(detector, "known")], Outputs(tmp_path / "out.mp4"), PLAIN)
    (_, (figures, badge)) = bars  # the first is that of the warm-up
    assert badge == "known  fp32  cpu"
    assert re.fullmatch(r"end-to-end \d+\.\d ms, p99 \d+\.\d ms, -- FPS, 0 dropped", ", ".join(figures))
    # The picture's own figures, which are those of the run.
    assert float(figures[1].split()[1]) == pytest.approx(result.latency_ms["end_to_end"]["p99"], abs=0.06)


def test_weather_is_laid_over_before_detection(
    video: Path, detector: Detector, tmp_path: Path, read_frames: Read
) -> None:
    dark = VideoSettings(track=False, weather="night:5")
    result = run_video(str(video), [Model(detector)], Outputs(tmp_path / "out.mp4"), dark)
    assert result.per_class.get("person", 0) < 3
    assert result.latency_ms["weather"]["p50"] > 0
    assert read_frames(tmp_path / "out.mp4")[-1][100:].mean() < 150


@pytest.mark.parametrize(
    ("text", "message"), [("fog:9", "severity is 1 to 5"), ("fog:", "severity is 1 to 5"), ("frogs:3", "frogs")]
)
def test_weather_that_does_not_exist(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoWeather(text, 25.0)


def test_weather_is_the_same_every_time_and_survives_another_size() -> None:
    frames = [np.full((64, 96, 3), 120, np.uint8)] * 3 + [np.full((32, 48, 3), 120, np.uint8)]
    one, two = VideoWeather("rain", 10.0), VideoWeather("rain:3", 10.0)
    for frame in frames:
        first, second = one(frame), two(frame)
        assert (first == second).all() and first.shape == frame.shape
    assert not VideoWeather(None, 10.0).active


def test_weather_goes_on_where_sizes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes, frame by frame: rain goes on falling in each, and each is as in a video of that size alone."""
    small, large = np.full((32, 48, 3), 120, np.uint8), np.full((64, 96, 3), 120, np.uint8)
    turns, alone = VideoWeather("rain:3", 10.0), VideoWeather("rain:3", 10.0)
    seen = [turns(small if index % 2 else large) for index in range(6)]
    assert not (seen[0] == seen[2]).all() and not (seen[1] == seen[3]).all()
    for frame, time_s in ((seen[0], 0.0), (seen[2], 0.2), (seen[4], 0.4)):
        assert (frame == alone(large, time_s)).all()
    monkeypatch.setattr("drivetl.video.weathered._MOST_SIZES", 3)
    for width in range(40, 60):
        turns(np.full((32, width, 3), 120, np.uint8))
    assert len(turns._clips) <= 3


def job(index: int, *rows: tuple[float, float, float, float, float, int]) -> Job:
    table = np.array(rows, np.float64).reshape(-1, 6)
    found = Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))
    return Job(index, np.full((60, 100, 3), index % 256, np.uint8), 0.0, [View(tracked=untracked(found))])


def test_interest_grows_with_what_there_is_to_see() -> None:
    nothing, far, near = job(0), job(0, (1, 1, 5, 5, 0.9, 0)), job(0, (1, 1, 60, 50, 0.9, 0))
    both = job(0, (1, 1, 60, 50, 0.9, 0), (70, 1, 90, 50, 0.9, 1))
    values = [interest(j.views, (100, 60)) for j in (nothing, far, near, both)]
    assert values == sorted(values) and values[0] == 0 and len(set(values)) == 4
    assert interest([*near.views, *nothing.views], (100, 60)) > values[2]  # two models that disagree


def test_the_best_stills_are_kept_apart_from_each_other(tmp_path: Path) -> None:
    with Stills(tmp_path / "stills", 3, fps=10.0, overwrite=False) as stills:
        for index in range(200):
            size = {20: 40, 25: 50, 100: 55, 150: 30, 180: 52}.get(index, 5)
            stills.consider(job(index, (0, 0, size, size, 0.9, 0)))
            assert len(stills._kept) <= 15
    assert [path.name for path in stills.written] == [f"frame-{index:06d}.jpg" for index in (25, 100, 180)]
    assert abs(float(cv2.imread(str(stills.written[1])).mean()) - 100) < 3
    with pytest.raises(OutputError, match="holds stills already; pass --overwrite"):
        Stills(tmp_path / "stills", 3, 10.0, False)
    (tmp_path / "stills" / "mine.jpg").write_bytes(b"")
    with Stills(tmp_path / "stills", 1, 10.0, True) as again:
        again.consider(job(7, (0, 0, 50, 50, 0.9, 0)))
    # Those of the run before would pass for pictures of this one.
    left = sorted(path.name for path in (tmp_path / "stills").iterdir())
    assert left == [STILLS_LIST, "frame-000007.jpg", "mine.jpg"]


def test_a_picture_that_drivetl_did_not_write_is_never_replaced_or_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    others = [folder / name for name in ("frame-1.jpg", "frame-front.jpg", "frame-0000012.jpg.bak")]
    for path in (*others, folder / "frame-000002.jpg"):
        path.write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(
            OutputError, match=r"frame-000002\.jpg' is named like a still and is none that drivetl wrote"
        ):
            Stills(folder, 3, 10.0, overwrite)
    (folder / "frame-000002.jpg").unlink()
    with Stills(folder, 3, 10.0, False) as stills:
        stills.consider(job(7, (0, 0, 50, 50, 0.9, 0)))
    # In the place of a still: the list has its name, and other contents.
    (folder / "frame-000007.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"frame-000007\.jpg' is named like a still"):
        check_outputs(Outputs(stills=folder, overwrite=True), "0", None)
    (folder / "frame-000007.jpg").unlink()
    with Stills(folder, 3, 10.0, True):
        pass  # no frame, so nothing to write
    assert [path.read_bytes() for path in others] == [b"mine"] * 3 and STILLS_LIST in {p.name for p in folder.iterdir()}
    for text in ("by hand", "[]", '{"stills": [7]}', '{"stills": [{"file": [], "sha256": ""}]}'):
        (folder / STILLS_LIST).write_text(text, encoding="utf-8")
        with pytest.raises(OutputError, match="is no list of stills as drivetl writes it"):
            Stills(folder, 3, 10.0, True)
        assert (folder / STILLS_LIST).read_text(encoding="utf-8") == text


def test_stills_of_a_run_that_was_killed_are_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stills"
    for level in (7, 9):  # the second run is killed before its picture, which has the name of the first one's
        with contextlib.suppress(KeyboardInterrupt), Stills(folder, 1, 10.0, True) as stills:
            found = job(7, (0, 0, 50, 50, 0.9, 0))
            found.image_bgr[:] = level
            stills.consider(found)
            if level == 9:
                monkeypatch.setattr(Path, "replace", killed_at_a_picture)
    monkeypatch.undo()
    with Stills(folder, 1, 10.0, True) as stills:
        stills.consider(job(8, (0, 0, 50, 50, 0.9, 0)))
    assert sorted(path.name for path in folder.iterdir()) == [STILLS_LIST, "frame-000008.jpg"]


def killed_at_a_picture(self: Path, target: Path) -> Path:
    if target.suffix == ".jpg":
        raise KeyboardInterrupt
    self.rename(target)
    return target


def test_a_full_disk_keeps_what_was_written(
    make_video: MakeVideo, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_frames: Read
) -> None:
    """The disk is full after 900 kB: the run stops, the video plays up to there, and the other files are whole."""
    pytest.importorskip("av", reason="needs PyAV for H.264: pip install 'drivetl[video]'")
    from drivetl.video import h264

    class SmallDisk:
        def __init__(self, handle: Any) -> None:
            self._handle, self._left = handle, 900_000

        def write(self, data: Any) -> int:
            if self._left <= 0:
                raise OSError(28, "No space left on device")
            written = self._handle.write(memoryview(data)[: self._left])  # a full disk takes a part first
            self._left -= written
            return int(written)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._handle, name)

    class SmallFile(h264._FailSafeFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._handle = SmallDisk(self._handle)  # type: ignore[assignment]

    monkeypatch.setattr(h264, "_FailSafeFile", SmallFile)
    source = make_video("in.avi", [0] * 150, fps=10, size_wh=(256, 128), four_cc="MJPG", noise=True)
    outputs = Outputs(tmp_path / "out.mp4", tmp_path / "a.jsonl")
    message = r"out\.mp4': No space left on device; free space .*\. The first (\d+) frames are kept and can be played"
    with pytest.raises(OutputError, match=message):
        run_video(str(source), [Model(detector)], outputs, PLAIN)
    assert (tmp_path / "out.mp4").stat().st_size <= 900_000
    frames = read_frames(tmp_path / "out.mp4")
    assert 10 < len(frames) < 150 and frames[0].shape == (128, 256, 3)
    assert len(frames) <= len(lines(tmp_path / "a.jsonl")) < 150
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "in.avi", "out.mp4"]


@pytest.mark.parametrize("option", ["detections", "mot", "stills"])
def test_a_file_beside_that_cannot_be_written_leaves_the_video(
    option: str,
    video: Path,
    detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_frames: Read,
) -> None:
    monkeypatch.setattr("drivetl.video.stills.atomic_file", lambda target, **_: writing_to_nowhere(target))
    monkeypatch.setattr("drivetl.video.outputs._Lines._add", lambda self, text: writing_to_nowhere(self._target))
    outputs = Outputs(tmp_path / "out.mp4", **{option: tmp_path / "beside"})
    message = r"cannot write .*beside.*No space left on device.*\. The video is kept: '.*out\.mp4'"
    with pytest.raises(OutputError, match=message):
        run_video(str(video), [Model(detector)], outputs, VideoSettings(track=True))
    assert len(read_frames(tmp_path / "out.mp4")) == (6 if option == "stills" else 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_what_is_complete_is_kept_where_the_stills_cannot_be_written(
    video: Path, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_frames: Read
) -> None:
    monkeypatch.setattr("drivetl.video.stills.atomic_file", lambda target, **_: writing_to_nowhere(target))
    files = [tmp_path / name for name in ("out.mp4", "a.jsonl", "a.txt")]
    message = (
        r"cannot write .*stills.*No space left on device.*\. The tracks are kept: '.*a\.txt'. The detections are kept: "
        r"'.*a\.jsonl'. The video is kept: '.*out\.mp4'$"
    )
    with pytest.raises(OutputError, match=message):
        run_video(str(video), [Model(detector)], Outputs(*files, tmp_path / "stills"))
    assert len(read_frames(files[0])) == len(lines(files[1])) == 6 and len(files[2].read_text().splitlines()) == 6


def test_tracks_that_cannot_be_written_leave_the_detections(
    video: Path, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivetl.video.outputs.MotLines.write", lambda self, _: writing_to_nowhere(self._target))
    with pytest.raises(OutputError, match=r"a\.txt'.*\. The detections are kept: '.*a\.jsonl'$"):
        run_video(str(video), [Model(detector)], Outputs(None, tmp_path / "a.jsonl", tmp_path / "a.txt"))
    assert len(lines(tmp_path / "a.jsonl")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "in.mp4"]


def writing_to_nowhere(target: Path) -> None:
    with writing(target):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("option", ["--out", "--stills"])
def test_a_link_to_itself_is_refused(option: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "a.mp4")
    outputs = Outputs(**{"video" if option == "--out" else "stills": tmp_path / "a.mp4"})
    with pytest.raises(OutputError, match=f"{option} '.*a.mp4' cannot be used: .*itself; choose another place"):
        check_outputs(outputs, "0", True)


@pytest.mark.parametrize("option", ["--out", "--detections", "--mot", "--stills", "--stats"])
def test_a_place_below_a_file_is_refused_before_the_work(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = {option: tmp_path / "file" / "sub" / "a.mp4"}
    outputs = Outputs(place.get("--out"), place.get("--detections"), place.get("--mot"), place.get("--stills"))
    with pytest.raises(OutputError, match=f"{option} '.*a.mp4' cannot be made, because '.*file' is no folder"):
        check_outputs(outputs, "0", True, stats=place.get("--stats"))


def test_a_size_that_changes_in_the_middle(tmp_path: Path, detector: Detector, read_frames: Read) -> None:
    """Two transport streams one after the other, as when a camera switches its resolution."""
    av = pytest.importorskip("av", reason="needs PyAV to write the video")
    data = b""
    for number, (width, height) in enumerate([(256, 128), (128, 64)]):
        path = tmp_path / f"{number}.ts"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index in range(20):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 200, np.uint8), format="bgr24")
                frame.pts = index + 20 * number
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        data += path.read_bytes()
    (tmp_path / "both.ts").write_bytes(data)
    settings = VideoSettings(allow_truncated=True)
    result = run_video(str(tmp_path / "both.ts"), [Model(detector)], Outputs(tmp_path / "out.mp4"), settings)
    assert result.size_wh == (256, 128) and result.frames_out >= 36
    assert {frame.shape for frame in read_frames(tmp_path / "out.mp4")} == {(128, 256, 3)}
    assert result.tracks == {"car": 1, "person": 1}  # the boxes scale with the frames, so the objects keep their ids


def test_8k(tmp_path: Path, detector: Detector, grey: Grey, read_frames: Read) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.jpg"), grey(200, (7680, 4320)))
    result = run_video(str(folder), [Model(detector)], Outputs(tmp_path / "out.mp4"), PLAIN)
    assert (result.size_wh, result.per_class) == ((7680, 4320), {"car": 1, "person": 1})
    assert read_frames(tmp_path / "out.mp4")[0].shape == (4320, 7680, 3)


def test_memory_stays_constant(make_video: MakeVideo, detector: Detector, tmp_path: Path) -> None:
    """With everything on. 10,000 frames of 640x320 were measured by hand: 282.6 MB after 500, 282.7 MB at most."""
    statm = Path("/proc/self/statm")
    source = make_video("long.mp4", [200 if i // 40 % 2 else 100 for i in range(900)])
    resident_mb: dict[int, float] = {}

    def note(label: str, done: int, total: int | None) -> None:
        if done % 50 == 0:
            resident_mb[done] = int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6

    outputs = Outputs(tmp_path / "o.mp4", tmp_path / "a.jsonl", tmp_path / "a.txt", tmp_path / "stills")
    run_video(str(source), [Model(detector)], outputs, None, Around(progress=note))
    assert max(resident_mb[done] for done in resident_mb if done >= 300) - resident_mb[300] < 20


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_unevenly_spaced_frames_keep_their_times(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grey: Grey, codec: str
) -> None:
    av = pytest.importorskip("av", reason="needs PyAV to write uneven time stamps")
    from fractions import Fraction

    # Matroska states no mean rate, so OpenCV gives the finest: 25 a second. The first 20 keep it, then every other is
    # missing.
    wanted_s = [index / 25 for index in range(60) if index < 20 or index % 2]
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 128, "yuv420p"
        for time_s in wanted_s:
            frame = av.VideoFrame.from_ndarray(grey(200, (256, 128)), format="bgr24")
            frame.pts, frame.time_base = round(time_s * 25), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    monkeypatch.setattr("drivetl.video.writer.h264_available", lambda: codec == "h264")
    seen: dict[str, list[float | None]] = {"tracker": [], "tails": [], "weather": []}
    for kind, target, place in (
        ("tracker", "drivetl.video.lane.Tracker.update", 3),
        ("tails", "drivetl.video.lane.Tails.add", 2),
        ("weather", "drivetl.video.pipeline.VideoWeather.__call__", 2),
    ):
        monkeypatch.setattr(target, noting(target, seen[kind], place))
    outputs = Outputs(tmp_path / "out.mp4", tmp_path / "a.jsonl")
    result = run_video(str(tmp_path / "in.mkv"), [Model(detector)], outputs, VideoSettings(weather="haze:1"))
    assert [line["time_s"] for line in lines(tmp_path / "a.jsonl")] == pytest.approx(wanted_s, abs=0.001)
    assert seen["tails"] == pytest.approx(wanted_s, abs=0.001)
    assert seen["tracker"][:20] == seen["weather"][:20] == [None] * 20  # as an evenly spaced video always was
    assert seen["tracker"][20:] == seen["weather"][20:] == pytest.approx(wanted_s[20:], abs=0.001)
    assert "unevenly spaced, 16.5 a second in the mean" in " ".join(result.notes)
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    shown_s = [capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 for _ in iter(lambda: capture.read()[0], False)]
    if codec == "h264":
        assert shown_s == pytest.approx(wanted_s, abs=0.001)
    else:
        assert len(shown_s) == 40 and "plays at an even rate" in " ".join(result.notes)


def noting(target: str, places: list[float | None], place: int) -> Callable[..., Any]:
    """What a method does, its argument at a place noted; None where it is not given."""
    method: Callable[..., Any] = pkgutil.resolve_name(target)

    def noted(*arguments: Any) -> Any:
        places.append(arguments[place] if len(arguments) > place else None)
        return method(*arguments)

    return noted
