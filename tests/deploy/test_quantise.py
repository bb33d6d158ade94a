"""8 bits and half precision: what stays in float, what the search does, and when it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from drivetl.deploy import GraphOptions, Int8Options, Tolerances, export, verify_bundle
from drivetl.deploy.calibration import chosen_samples, tensor_ranges
from drivetl.deploy.graph import decoding_tail, half_precision
from drivetl.deploy.qdq import OPERATORS, in_float, layer_groups, quantised
from drivetl.deploy.quantise import quantise
from drivetl.deploy.sensitivity import distortion, raw_of, sensitivities
from drivetl.errors import ConfigError, DatasetError, GateFailed
from drivetl.progress import silent
from drivetl.runtime import Contract, Detector, Letterbox, open_bundle
from drivetl.runtime.selftest import self_test


def _network() -> Any:
    """Three convolutions whose middle one is fed by a channel a thousand times as large as the others.

    One 8-bit scale for that tensor leaves nothing of the small channels, so the middle convolution is what hurts.
    """
    rng = np.random.default_rng(0)
    first = rng.uniform(0.1, 0.3, (4, 3, 1, 1)).astype(np.float32)
    first[3] *= 1000
    second = np.eye(4, dtype=np.float32)[:, :, None, None]
    second[3] *= 1e-3
    third = rng.uniform(0, 1 / 256, (6, 4, 8, 8)).astype(np.float32)
    centres = np.stack(np.meshgrid(np.arange(4, 64, 8), np.arange(4, 64, 8))).reshape(2, 64)
    offset = np.zeros((1, 6, 64), np.float32)
    offset[0, :2], offset[0, 2:4] = centres, 16
    bias = rng.uniform(-0.01, 0.01, 4).astype(np.float32)
    values = {
        "w0": first,
        "w1": second,
        "w2": third,
        "b0": bias,
        "b1": bias,
        "shape": np.array([1, 6, 64]),
        "offset": offset,
    }
    nodes = [
        helper.make_node("Conv", ["images", "w0", "b0"], ["a"], "/model.0/conv/Conv"),
        helper.make_node("Conv", ["a", "w1", "b1"], ["b"], "/model.1/conv/Conv"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "/model.2/cv3.0/Conv", strides=[8, 8]),
        helper.make_node("Reshape", ["c", "shape"], ["d"], "/model.2/Reshape"),
        helper.make_node("Add", ["d", "offset"], ["output0"], "/model.2/Add"),
    ]
    graph = helper.make_graph(
        nodes,
        "three",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 64])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def _tensors(count: int = 4) -> list[Any]:
    return [np.random.default_rng(seed).random((1, 3, 64, 64), np.float32) for seed in range(count)]


@pytest.fixture
def network(tmp_path: Path) -> tuple[Any, Path]:
    model = _network()
    onnx.save(model, str(tmp_path / "three.onnx"))
    return model, tmp_path / "three.onnx"


def _eight_bit(network: tuple[Any, Path], method: Any = "min-max") -> Any:
    model, path = network
    ranges = tensor_ranges(path, _tensors(), 4, method=method, operators=OPERATORS, progress=silent)
    return quantised(model, ranges)


def test_weights_become_int8_by_channel_and_the_tail_stays_in_float(network: tuple[Any, Path]) -> None:
    model = _eight_bit(network)
    onnx.checker.check_model(model, full_check=True)
    weights = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    assert weights["w0_quantized"].dtype == np.int8 and weights["w0_scale"].shape == (4,)
    assert np.abs(weights["w2_quantized"]).max() == 127 and weights["w2_scale"].shape == (6,)
    tail = [node for node in model.graph.node if node.name in ("/model.2/Reshape", "/model.2/Add")]
    assert decoding_tail(network[0]) == [node.name for node in tail]
    assert tail[1].output[0] == "output0", "nothing is quantised behind the boxes"


@pytest.mark.parametrize("method", ["min-max", "entropy", "percentile"])
def test_every_method_gives_ranges_inside_what_was_seen(method: Any, network: tuple[Any, Path]) -> None:
    ranges = tensor_ranges(network[1], _tensors(), 4, method=method, operators=("Conv",), progress=silent)
    low, high = (np.asarray(value).item() for value in ranges["images"].range_value)
    assert -1e-6 <= low <= 0.1 and 0.5 < high <= 1.01


def test_everything_back_in_float_is_the_float_network_again(network: tuple[Any, Path]) -> None:
    original, model = network[0], _eight_bit(network)
    names = {name for group in layer_groups(original).values() for name in group}
    back = in_float(model, original, names)
    assert not any(node.op_type.endswith("Linear") for node in back.graph.node)
    weights = {value.name.removesuffix("/float") for value in back.graph.initializer}
    assert weights == {value.name for value in original.graph.initializer}
    onnx.checker.check_model(back, full_check=True)
    for tensor in _tensors():
        np.testing.assert_array_equal(raw_of(back)(tensor), raw_of(original)(tensor))


def test_any_part_in_float_is_a_sound_graph_and_closer_to_the_float_one(network: tuple[Any, Path]) -> None:
    original, model = network[0], _eight_bit(network)
    groups = list(layer_groups(original).values())
    left = []
    for count in range(len(groups) + 1):
        variant = in_float(model, original, {name for group in groups[:count] for name in group})
        onnx.checker.check_model(variant, full_check=True)
        run = raw_of(variant)
        left.append(sum(distortion(raw_of(original)(tensor), run(tensor)) for tensor in _tensors()))
    assert left[0] > left[-1] == 0 and left[2] < 0.1 * left[0]


def test_the_group_that_hurts_is_found(network: tuple[Any, Path]) -> None:
    original, model = network[0], _eight_bit(network)
    groups = layer_groups(original)
    assert list(groups) == ["/model.0", "/model.1", "/model.2/cv3.0"]
    found = sensitivities(original, model, groups, _tensors(), silent)
    assert found[0].group == "/model.1" and found[0].gain > 10 * max(abs(entry.gain) for entry in found[1:])


def test_what_is_in_float_already_is_not_ranked_again(network: tuple[Any, Path]) -> None:
    original, model = network[0], _eight_bit(network)
    groups = layer_groups(original)
    first = sensitivities(original, model, groups, _tensors(), silent)[0]
    rest = sensitivities(original, model, groups, _tensors(), silent, kept=[first.group])
    assert {entry.group for entry in rest} == set(groups) - {first.group}
    for entry in rest:
        assert entry.gain + entry.distortion == pytest.approx(first.distortion, abs=2e-6), "it starts where that ended"


def test_distortion_is_zero_for_equals_and_counts_scores_and_boxes() -> None:
    raw = np.array([[[50, 20], [50, 20], [10, 10], [10, 10], [0.9, 0.01], [0.1, 0.02]]], np.float32)
    assert distortion(raw, raw) == 0
    less = raw.copy()
    less[0, 4, 0] = 0.6
    assert distortion(raw, less) == pytest.approx(0.3)
    less[0, 0, 0] += 5  # half the width: an overlap of one third
    assert distortion(raw, less) == pytest.approx(0.3 + 2 / 3)
    less[0, :, 1] = 0
    assert distortion(raw, less) == pytest.approx(0.3 + 2 / 3), "background takes no part"


class Judge:
    """An accuracy that falls with what the 8 bits did to the scores, and remembers what it was asked."""

    def __init__(self, held_out: float = 0.0, scale: float = 1.0, bare: str = "") -> None:
        self.held_out, self.scale, self.bare = held_out, scale, bare
        self.asked: list[str] = []
        self.checked: list[str] = []
        self._reference: list[Any] | None = None

    def require_boxes(self, contract: Contract, split: str) -> None:
        self.checked.append(split)
        if split == self.bare:
            raise DatasetError(f"the split {split!r} has no boxes")

    def map50_95(self, contract: Contract, raw: Callable[[Any], Any], split: str, most: int) -> tuple[float, int]:
        self.asked.append(split)
        found = [raw(tensor) for tensor in _tensors()]
        self._reference = self._reference or found
        lost = np.mean([distortion(a, b) for a, b in zip(self._reference, found, strict=True)])
        return float(0.5 - self.scale * lost), 3

    def compare(self, contract: Contract, before: Any, after: Any, split: str) -> dict[str, Any]:
        self.asked.append(split)
        return {"before": 0.5, "after": 0.5 + self.held_out, "difference": self.held_out, "interval": None}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "target"
    for split, count in (("train", 4), ("val", 2)):
        (root / "images" / split).mkdir(parents=True)
        for index in range(count):
            noise = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            cv2.imwrite(str(root / "images" / split / f"{index}.png"), noise)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car]\n", encoding="utf-8")
    return root


def _contract(names: Sequence[str] = ("car", "dark")) -> Contract:
    return Contract("images", (64, 64), "output0", (1, 6, 64), tuple(names), Letterbox((64, 64)))


def test_over_budget_only_what_hurts_is_left_in_float(network: tuple[Any, Path], dataset: Path) -> None:
    judge = Judge()
    model, account = quantise(*network, _contract(), Int8Options(dataset, judge, max_drop=1.0))
    assert account["float_groups"] == ["/model.1"]
    assert len(account["search"]["trials"]) == 4, "three rules for ranges, then one group in float"
    assert account["search"]["trials"][0]["drop_points"] > 1.0
    # The pictures that chose flatter, so half of the budget is all that they may show.
    assert account["search"]["trials"][-1]["drop_points"] <= 0.5
    assert account["search"]["sensitivity"][0]["group"] == "/model.1"
    assert account["held_out"]["split"] == "val"
    assert account["search"]["pictures"] == 3, "as many as were measured, not as many as were asked for"
    assert judge.asked == ["train"] * 5 + ["val"], "held-out pictures are looked at once, at the end"
    assert {node.op_type for node in model.graph.node} > {"QuantizeLinear", "DequantizeLinear"}
    json.dumps(account, allow_nan=False)


def test_what_comes_behind_the_first_is_ranked_anew(network: tuple[Any, Path], dataset: Path) -> None:
    told: list[str] = []
    options = Int8Options(dataset, Judge(), max_drop=0.0, methods=("min-max",))
    _, account = quantise(*network, _contract(), options, lambda label, done, total: told.append(f"{label} {total}"))
    assert [label for label in dict.fromkeys(told) if "sensitivity" in label] == [
        "sensitivity 3",
        "sensitivity 2",
        "sensitivity 1",
    ]
    ranked = [entry["group"] for entry in account["search"]["sensitivity"]]
    assert sorted(ranked) == ["/model.0", "/model.1", "/model.2/cv3.0"] and ranked[0] == "/model.1"
    assert set(account["float_groups"]) == set(ranked), "nothing may be lost, so all of it is in float"
    assert account["processor"]["int8_saturates"] in (True, False, None)


def test_within_the_budget_nothing_is_searched(network: tuple[Any, Path], dataset: Path) -> None:
    _, account = quantise(*network, _contract(), Int8Options(dataset, Judge(), max_drop=100.0, methods=("min-max",)))
    assert account["float_groups"] == [] and account["search"]["sensitivity"] == []
    assert len(account["search"]["trials"]) == 1


def test_too_few_pictures_and_missing_classes_stand_in_the_account(network: tuple[Any, Path], dataset: Path) -> None:
    options = Int8Options(dataset, None, methods=("min-max",))
    account = quantise(*network, _contract(), options)[1]
    assert [warning.partition(":")[0] for warning in account["warnings"]] == [
        "calibrated on 4 pictures, fewer than 50",
        "the calibration dataset has no class for 1 of the model's 2 (dark)",
        "accuracy was not measured",
    ]
    assert account["held_out"] is None and account["search"]["fp32_map50_95"] is None


class Never(Judge):
    """Whatever is not the float network itself is bad, even if it computes the same."""

    def map50_95(self, contract: Contract, raw: Callable[[Any], Any], split: str, most: int) -> tuple[float, int]:
        self.asked.append(split)
        return (0.5 if len(self.asked) == 1 else 0.3), 3


@pytest.mark.parametrize(
    ("judge", "sentence"),
    [
        (Never(), r"loses 20.00 mAP points on the training pictures even with all 3 groups .* over half of the 1 "),
        (Judge(held_out=-0.02), r"loses 2.00 mAP points on the held-out split 'val', over the 1 "),
    ],
)
def test_what_cannot_hold_is_refused_with_both_figures(
    judge: Judge, sentence: str, network: tuple[Any, Path], dataset: Path
) -> None:
    with pytest.raises(GateFailed, match=sentence):
        quantise(*network, _contract(), Int8Options(dataset, judge, methods=("min-max",)))


def test_a_dataset_without_held_out_pictures_and_a_wrong_budget_are_refused(
    network: tuple[Any, Path], dataset: Path
) -> None:
    with pytest.raises(ConfigError, match="--max-drop"):
        quantise(*network, _contract(), Int8Options(dataset, None, max_drop=-1))
    (dataset / "data.yaml").write_text("train: images/train\nnames: [car]\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="no split test or val"):
        quantise(*network, _contract(), Int8Options(dataset, None))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_boxes_is_refused_before_the_search(
    split: str, network: tuple[Any, Path], dataset: Path
) -> None:
    judge = Judge(bare=split)
    with pytest.raises(DatasetError, match=f"'{split}' has no boxes"):
        quantise(*network, _contract(), Int8Options(dataset, judge))
    assert judge.asked == []


def test_int8_without_a_dataset_and_a_dataset_without_int8_are_refused(tmp_path: Path) -> None:
    for options in (GraphOptions(precision="int8"), GraphOptions(int8=Int8Options(tmp_path, None))):
        with pytest.raises(ConfigError, match="--calibrate"):
            export(tmp_path / "no.pt", tmp_path / "out", options=options)
    with pytest.raises(ConfigError, match="'int4' is none of"):
        export(tmp_path / "no.pt", tmp_path / "out", options=GraphOptions(precision="int4"))


def test_calibration_pictures_hold_every_condition_in_its_share() -> None:
    def sample(index: int) -> Any:
        weather = "fog" if index % 4 == 0 else "clear"
        return SimpleNamespace(attributes={"weather": weather}, image=Path(f"{index:03d}.png"))

    dataset: Any = SimpleNamespace(samples=lambda split: (sample(index) for index in range(80)))
    chosen = chosen_samples(dataset, "train", 20)
    assert len(chosen) == 20
    assert sum(entry.attributes["weather"] == "fog" for entry in chosen) == 5


@pytest.mark.material
def test_the_tail_of_a_yolo_is_what_follows_its_last_trained_convolutions(yolo_bundle: Path) -> None:
    model = onnx.load(str(yolo_bundle / "model.onnx"))
    tail = decoding_tail(model)
    kinds = {node.name: node.op_type for node in model.graph.node}
    assert "Exp" in {kinds[name] for name in tail} and "Conv" not in {kinds[name] for name in tail}
    assert tail[-1] == model.graph.node[-1].name
    assert all("/model.23/" in name and "/cv" not in name for name in tail)


@pytest.mark.material
def test_half_precision_halves_the_file_and_keeps_the_detections(
    material: Path, yolo_bundle: Path, road_pictures: Path, tmp_path: Path
) -> None:
    weights = material / "weights" / "yolo11n.pt"
    bundle = export(weights, tmp_path / "half", size_hw=(256, 320), options=GraphOptions(precision="fp16")).bundle
    model = onnx.load(str(bundle / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert {value.data_type for value in model.graph.initializer if len(value.dims) == 4} == {TensorProto.FLOAT16}
    tail_types = {value.data_type for value in model.graph.initializer if value.name.startswith("drivetl/box/")}
    assert TensorProto.FLOAT in tail_types and TensorProto.FLOAT16 not in tail_types
    sizes = [(folder / "model.onnx").stat().st_size for folder in (bundle, yolo_bundle)]
    assert sizes[0] < 0.55 * sizes[1]
    result = verify_bundle(bundle, weights, road_pictures, limit=4).with_accuracy(0.3, 0.3)
    assert 1e-4 < result.max_abs_diff_scores < 0.05, "it did compute in float16"
    assert result.passed, result.problems
    assert open_bundle(bundle).contract.precision == "fp16"


def test_a_half_network_computes_close_to_the_whole_one(network: tuple[Any, Path]) -> None:
    model = _network()
    half_precision(model)
    onnx.checker.check_model(model, full_check=True)
    for tensor in _tensors():
        whole, half = raw_of(network[0])(tensor), raw_of(model)(tensor)
        assert 0 < np.abs(whole - half).max() < 0.02


@pytest.mark.material
def test_a_real_network_in_8_bits_finds_what_the_float_one_finds(
    material: Path, road_pictures: Path, tmp_path: Path
) -> None:
    (road_pictures / "data.yaml").write_text("train: images/val\nval: images/val\nnames: [person, car]\n", "utf-8")
    weights = material / "weights" / "yolo11n.pt"
    int8 = Int8Options(road_pictures, None, methods=("min-max",))
    options = GraphOptions(in_graph_preprocessing=True, precision="int8", int8=int8)
    bundle = export(weights, tmp_path / "eight", size_hw=(256, 320), options=options).bundle
    detector = Detector(bundle)
    assert detector.contract.precision == "int8" and detector.contract.input_dtype == "uint8"
    assert (bundle / "model.onnx").stat().st_size < 4e6
    assert self_test(bundle).passed
    result = verify_bundle(bundle, weights, road_pictures, limit=4).with_accuracy(0.30, 0.295)
    assert result.tolerances == Tolerances.for_precision(detector.contract)
    assert result.passed, result.problems
    assert not result.with_accuracy(0.30, 0.28).passed
