"""What a bundle holds, what it does not give away, and that it is written whole or not at all."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from drivetl.deploy import GraphOptions, export
from drivetl.deploy.golden import golden_pictures, synthetic_frame
from drivetl.deploy.graph import preprocess_in_graph
from drivetl.errors import ConfigError, DatasetError, OutputError, WeightsError
from drivetl.files import sha256_file
from drivetl.runtime import Detector, open_bundle, to_tensor
from drivetl.runtime.contract import METADATA_KEY
from drivetl.runtime.selftest import self_test

Run = Callable[..., Any]


@pytest.mark.material
def test_a_real_bundle_states_what_the_model_takes_and_gives(material: Path, yolo_bundle: Path) -> None:
    contract = open_bundle(yolo_bundle).contract
    assert contract.input_size_hw == (256, 320)
    # One box for each cell of strides 8, 16 and 32.
    assert contract.output_shape == (1, 84, 32 * 40 + 16 * 20 + 8 * 10)
    assert contract.class_names[:3] == ("person", "bicycle", "car") and len(contract.class_names) == 80
    assert contract.source_weights_sha256 == sha256_file(material / "weights" / "yolo11n.pt")
    assert contract.licence == "AGPL-3.0"
    assert {"drivetl", "torch", "ultralytics", "onnx", "onnxslim", "onnxruntime"} <= contract.tools.keys()
    assert self_test(yolo_bundle).passed


@pytest.mark.material
def test_the_graph_carries_the_contract_and_no_trace_of_the_machine(yolo_bundle: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(str(yolo_bundle / "model.onnx")).metadata_props}
    assert json.loads(metadata[METADATA_KEY]) == open_bundle(yolo_bundle).contract.metadata_document()
    assert {"names", "stride", "task", "imgsz"} <= metadata.keys(), "what Ultralytics' own tools read is kept"
    assert "date" not in metadata
    for path in (p for p in yolo_bundle.rglob("*") if p.is_file()):
        data = path.read_bytes()
        for trace in (str(Path.home()), str(yolo_bundle.parent), "/tmp/", ".py"):
            assert trace.encode() not in data, f"{path.name} holds {trace}"


@pytest.mark.material
def test_it_finds_the_cars_on_a_real_road(material: Path, yolo_bundle: Path) -> None:
    detector = Detector(yolo_bundle)
    path = material / "data" / "kitti-day" / "image_2"
    pictures = sorted(path.iterdir())[:10]
    found = [detector(np.asarray(cv2.imread(str(p)), np.uint8)) for p in pictures]
    cars = sum(int((d.class_id == 2).sum()) for d in found)
    assert cars >= 5


@pytest.mark.material
def test_a_size_that_the_strides_do_not_divide_is_refused(material: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="100x100"):
        export(material / "weights" / "yolo11n.pt", tmp_path / "out", size_hw=(100, 100))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_none_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "page.pt").write_text("<html>404</html>")
    with pytest.raises(WeightsError, match="HTML"):
        export(tmp_path / "page.pt", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["page.pt"]


def test_the_bundle_and_its_report_agree(quick_export: Run, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    result = quick_export(
        tmp_path / "out",
        dataset_fingerprint="f1",
        progress=lambda label, done, total: steps.append((label, done, total)),
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["export"]["model_sha256"] == sha256_file(tmp_path / "out" / "model.onnx")
    assert report["export"]["bytes"] == result.bytes == (tmp_path / "out" / "model.onnx").stat().st_size
    assert report["export"]["weights"] == "weights.pt"
    assert report["verification"] is None
    assert result.contract.dataset_fingerprint == "f1"
    assert result.document()["bundle"] == str(tmp_path / "out")
    assert steps[0][1] == 0 and steps[-1][1] == steps[-1][2]


def test_the_same_export_gives_the_same_bytes(quick_export: Run, tmp_path: Path) -> None:
    first, second = quick_export(tmp_path / "a").bundle, quick_export(tmp_path / "b").bundle
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(names) == 5
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_an_existing_bundle_is_replaced_only_on_request(quick_export: Run, tmp_path: Path) -> None:
    quick_export(tmp_path / "out")
    with pytest.raises(OutputError, match="--overwrite"):
        quick_export(tmp_path / "out")
    (tmp_path / "out" / "stale").touch()
    quick_export(tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "stale").exists()


def test_a_strangers_folder_is_never_replaced(quick_export: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="was not made by drivetl"):
        quick_export(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(quick_export: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        quick_export(tmp_path / "file" / "out")


def _disk_full(*arguments: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "place", ["drivetl.yolo.onnx_export.export_onnx", "onnx.save", "pathlib.Path.write_bytes", "cv2.imencode"]
)
def test_a_full_disk_leaves_nothing_and_keeps_the_old_bundle(
    place: str, quick_export: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_export(tmp_path / "out")
    before = sorted(p.name for p in tmp_path.iterdir())
    sha256 = sha256_file(tmp_path / "out" / "model.onnx")
    monkeypatch.setattr(place, _disk_full)
    for target in ("out", "new"):
        with pytest.raises(OutputError, match="No space left on device; free space"):
            quick_export(tmp_path / target, overwrite=True)
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert sha256_file(tmp_path / "out" / "model.onnx") == sha256


@pytest.mark.material
def test_golden_frames_come_from_the_dataset(quick_export: Run, road_pictures: Path, tmp_path: Path) -> None:
    result = quick_export(tmp_path / "out", golden=road_pictures)
    assert result.golden_frames == 3
    expected = json.loads((tmp_path / "out" / "golden" / "expected.json").read_text(encoding="utf-8"))
    sources = [frame["source"] for frame in expected["frames"]]
    names = sorted(p.name for p in (road_pictures / "images" / "val").iterdir())
    assert sources[0] == names[0] and sources[-1] == names[-1] and len(set(sources)) == 3
    original = cv2.imread(str(road_pictures / "images" / "val" / sources[0]))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / "golden" / "frame-00.png")), original)
    assert self_test(tmp_path / "out").passed


def test_a_dataset_that_is_none_leaves_nothing(quick_export: Run, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no dataset"):
        quick_export(tmp_path / "out", golden=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_a_model_that_scores_nothing_is_not_exported(
    quick_export: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detector, "infer", lambda self, tensor: np.zeros((1, 6, 64), np.float32))
    with pytest.raises(WeightsError, match="no box any score on the golden frame 'synthetic'"):
        quick_export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_synthetic_frame_is_the_same_everywhere_and_not_flat() -> None:
    frame = synthetic_frame()
    assert frame.shape == (720, 1280, 3) and frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, synthetic_frame())
    assert (synthetic_frame(seed=1) != frame).any()
    assert frame.std() > 20
    assert [name for name, _ in golden_pictures(None)] == ["synthetic"]


@pytest.mark.material
def test_a_graph_that_preprocesses_gives_the_same_output_bit_for_bit(
    material: Path, yolo_bundle: Path, tmp_path: Path
) -> None:
    options = GraphOptions(in_graph_preprocessing=True)
    out = export(material / "weights" / "yolo11n.pt", tmp_path / "out", size_hw=(256, 320), options=options).bundle
    document = json.loads((out / "contract.json").read_text(encoding="utf-8"))
    assert document["input"] == {
        "name": "images_bgr",
        "shape_nhwc": [1, 256, 320, 3],
        "dtype": "uint8",
        "colour_order": "BGR",
        "scale": "1",
    }
    inside, outside = Detector(out), Detector(yolo_bundle)
    for path in sorted((material / "data" / "kitti-day" / "image_2").iterdir())[:3]:
        image = np.asarray(cv2.imread(str(path)), np.uint8)
        tensor, _ = inside.preprocess(image)
        assert tensor.dtype == np.uint8 and tensor.nbytes * 4 == outside.preprocess(image)[0].nbytes
        np.testing.assert_array_equal(inside.infer(tensor), outside.infer(outside.preprocess(image)[0]))
    assert self_test(out).passed
    onnx.checker.check_model(str(out / "model.onnx"), full_check=True)


def test_every_float_of_the_graph_is_that_of_the_runtime(tiny_bundle: Callable[..., Path]) -> None:
    from onnxruntime import InferenceSession

    model = onnx.load(str(tiny_bundle() / "model.onnx"))
    preprocess_in_graph(model)
    model.graph.output.append(onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 64, 64]))
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    levels = np.arange(64 * 64 * 3).astype(np.uint8).reshape(64, 64, 3)  # every byte in every channel
    np.testing.assert_array_equal(session.run(["images"], {"images_bgr": levels[None]})[0], to_tensor(levels))
