from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from drivetl.errors import ConfigError, OutputError, WeightsError
from drivetl.yolo import TorchModel, export_onnx, reference_letterbox
from drivetl.yolo.ultra import set_threads, torch_device

Save = Callable[..., Path]


def onnx_raw(path: Path, tensor: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    output: np.ndarray = session.run(None, {session.get_inputs()[0].name: tensor})[0]
    return output


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.material
def test_seam_and_export_are_one_function_on_a_real_picture(material: Path, tmp_path: Path) -> None:
    weights = material / "weights" / "yolo11n.pt"
    image = cv2.imread(str(material / "data" / "kitti-day" / "image_2" / "000046.jpeg"))
    boxed = reference_letterbox(image, (128, 416))
    assert boxed.shape == (128, 416, 3)
    tensor = np.ascontiguousarray(boxed[None, :, :, ::-1].transpose(0, 3, 1, 2), dtype=np.float32) / 255
    before = sorted(weights.parent.iterdir())
    described = export_onnx(weights, tmp_path / "model.onnx", size_hw=(128, 416))
    raw = TorchModel(weights).raw(tensor)
    graph = onnx_raw(tmp_path / "model.onnx", tensor)
    # float32 kernels of two libraries, in another order of summation: 1e-5 of a score, 1e-3 of a pixel in 416.
    np.testing.assert_allclose(graph[:, 4:], raw[:, 4:], atol=1e-5)
    np.testing.assert_allclose(graph[:, :4], raw[:, :4], atol=1e-2)
    assert raw[:, 4:].max() > 0.3, "the picture has cars, so something must be found"
    assert described["input"] == {"name": "images", "shape": [1, 3, 128, 416]}
    assert described["output"]["shape"] == [1, 84, raw.shape[2]]
    assert described["names"][2] == "car" and described["licence"]
    assert sorted(weights.parent.iterdir()) == before


def test_yolo26_answers_with_its_one_to_many_head(save_checkpoint: Save, tmp_path: Path) -> None:
    path = save_checkpoint("yolo26n")
    model = TorchModel(path)
    raw = model.raw(noise(2, 3, 64, 96))
    assert raw.shape == (2, 84, 8 * 12 + 4 * 6 + 2 * 3)
    assert raw.dtype == np.float32
    export_onnx(path, tmp_path / "a.onnx", size_hw=(64, 96), batch=2)
    np.testing.assert_allclose(onnx_raw(tmp_path / "a.onnx", noise(2, 3, 64, 96)), raw, atol=1e-3)


def test_the_same_checkpoint_gives_the_same_bytes_and_keeps_torchs_threads(
    save_checkpoint: Save, tmp_path: Path
) -> None:
    path = save_checkpoint()
    threads = torch.get_num_threads()
    for name in ("a", "b"):
        export_onnx(path, tmp_path / f"{name}.onnx", size_hw=(64, 64))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert torch.get_num_threads() == threads
    with pytest.raises(OutputError, match="exists"):
        export_onnx(path, tmp_path / "a.onnx", size_hw=(64, 64))


def test_a_dynamic_graph_takes_another_size(save_checkpoint: Save, tmp_path: Path) -> None:
    path = save_checkpoint()
    described = export_onnx(path, tmp_path / "a.onnx", size_hw=(64, 64), dynamic=True, opset=17)
    assert described["opset"] == 17
    assert described["input"]["shape"] == ["batch", 3, "height", "width"]
    tensor = noise(3, 3, 96, 64)
    np.testing.assert_allclose(onnx_raw(tmp_path / "a.onnx", tensor), TorchModel(path).raw(tensor), atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"size_hw": (60, 64)}, {"size_hw": (0, 64)}, {"size_hw": (64, 64), "batch": 0}, {"size_hw": (64, 64), "opset": 5}],
)
def test_export_options_out_of_range(options: dict[str, object], save_checkpoint: Save, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be"):
        export_onnx(save_checkpoint(), tmp_path / "a.onnx", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "a.onnx").exists()


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"bad")
    with pytest.raises(WeightsError):
        export_onnx(tmp_path / "bad.pt", tmp_path / "out" / "a.onnx", size_hw=(64, 64))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_convolutions_are_not_rounded_to_tf32_and_a_training_keeps_its_setting(
    save_checkpoint: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TorchModel(save_checkpoint())
    seen: list[bool] = []
    model._model.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    tensor = np.zeros((1, 3, 64, 64), np.float32)
    model.raw(tensor)
    model.raw_and_features(tensor)
    assert seen == [False, False] and torch.backends.cudnn.allow_tf32 is True


def test_the_tensor_is_checked_at_the_border(save_checkpoint: Save) -> None:
    model = TorchModel(save_checkpoint())
    with pytest.raises(ValueError, match=r"float64 \(1, 3, 64, 64\)"):
        model.raw(np.zeros((1, 3, 64, 64)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(1, 64, 64, 3\)"):
        model.raw(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(ValueError, match="multiples of 32"):
        model.raw(np.zeros((1, 3, 64, 70), np.float32))


@pytest.mark.parametrize("device", ["gpu", "cpu:1", "cuda:x", "", "-1"])
def test_unknown_devices_are_named(device: str) -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        torch_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_no_silent_cpu() -> None:
    with pytest.raises(ConfigError, match=r"'0' cannot be used: torch .* finds no CUDA GPU"):
        torch_device("0")


def test_threads_are_set_as_asked() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
