"""Estimates: the counts are right, and constants of one family hold for the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from drivetl.deploy import GraphOptions, export, load_profile, predict, rank
from drivetl.deploy.prediction import ERROR, T4, T4_CONSTANTS, T4_LATENCY_MS
from drivetl.deploy.roofline import Constants, Peaks, estimate_ms, fit, graph_layers
from drivetl.errors import BundleError, ConfigError
from drivetl.resources import resource_dir
from drivetl.yolo.layers import conv_layers

FAMILIES = ("yolo11", "yolo26")
Layers = tuple[tuple[float, float], ...]


@pytest.fixture(scope="module")
def networks() -> dict[str, list[Layers]]:
    return {family: [conv_layers(f"{family}{size}", (640, 640)) for size in "nsmlx"] for family in FAMILIES}


def test_operations_are_those_that_ultralytics_publishes(networks: dict[str, list[Layers]]) -> None:
    gflop = [sum(operations for operations, _ in layers) / 1e9 for layers in networks["yolo11"]]
    np.testing.assert_allclose(gflop, [6.5, 21.5, 68.0, 86.9, 194.9], atol=0.05)


@pytest.mark.material
def test_a_graph_and_its_description_cost_the_same(yolo_bundle: Path) -> None:
    found = graph_layers(onnx.load(str(yolo_bundle / "model.onnx")), (1, 3, 256, 320))
    described = conv_layers("yolo11n", (256, 320))
    # The parts of a convolution that was split count as what they came from.
    assert len(found) == len(described)
    for column in (0, 1):
        total = sum(row[column] for row in described)
        assert sum(row[column] for row in found) == pytest.approx(total, rel=0.002)


@pytest.mark.material
def test_open_shapes_cost_what_their_usual_size_costs_and_a_batch_its_pictures(
    yolo_bundle: Path, material: Path, tmp_path: Path
) -> None:
    fixed = graph_layers(onnx.load(str(yolo_bundle / "model.onnx")), (1, 3, 256, 320))
    options = GraphOptions(batch=2, dynamic=True, size_range_hw=((64, 64), (320, 320)))
    bundle = export(material / "weights" / "yolo11n.pt", tmp_path / "open", size_hw=(256, 320), options=options).bundle
    opened = onnx.load(str(bundle / "model.onnx"))
    assert graph_layers(opened, (1, 3, 256, 320)) == fixed
    twice = graph_layers(opened, (2, 3, 256, 320))
    assert [row[0] for row in twice] == [2 * row[0] for row in fixed]


def quantised_weights(model: onnx.ModelProto) -> None:
    """Let the convolution get its weights through DequantizeLinear, as int8 graphs do."""
    weight = next(value for value in model.graph.initializer if value.name == "weight")
    levels = onnx.numpy_helper.from_array(np.zeros(tuple(weight.dims), np.int8), "levels")
    scale = onnx.numpy_helper.from_array(np.float32(1), "scale")
    model.graph.initializer.remove(weight)
    model.graph.initializer.extend([levels, scale])
    model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["levels", "scale"], ["weight"]))


def test_int8_costs_the_same_operations(tiny_bundle: Callable[..., Path]) -> None:
    models = [onnx.load(str(tiny_bundle(name, graph=graph) / "model.onnx")) for name, graph in
              (("float", None), ("int8", quantised_weights))]  # fmt: skip
    assert graph_layers(models[1], (1, 3, 64, 64)) == graph_layers(models[0], (1, 3, 64, 64)) != []


def test_a_graph_whose_work_cannot_be_counted_has_no_estimate(tiny_bundle: Callable[..., Path]) -> None:
    model = onnx.load(str(tiny_bundle() / "model.onnx"))
    with pytest.raises(BundleError, match="does not follow from the graph"):
        graph_layers(model, (1, 3, 0, 64))
    del model.graph.node[0]
    with pytest.raises(BundleError, match="no convolution"):
        graph_layers(model, (1, 3, 64, 64))


@pytest.mark.parametrize(("fitted", "tested"), [FAMILIES, FAMILIES[::-1]])
def test_constants_of_one_family_predict_the_other_within_30_percent(
    fitted: str, tested: str, networks: dict[str, list[Layers]]
) -> None:
    constants = fit(networks[fitted], T4_LATENCY_MS[fitted], T4)
    for layers, measured in zip(networks[tested], T4_LATENCY_MS[tested], strict=True):
        assert estimate_ms(layers, T4, constants) == pytest.approx(measured, rel=0.3)
        # What the error bar rests on.
        assert estimate_ms(layers, T4, constants) == pytest.approx(measured, rel=ERROR / 2 + 0.01)


def test_the_stored_constants_are_the_fitted_ones(networks: dict[str, list[Layers]]) -> None:
    both = [layers for family in FAMILIES for layers in networks[family]]
    measured = [ms for family in FAMILIES for ms in T4_LATENCY_MS[family]]
    found = fit(both, measured, T4)
    assert (found.compute, found.memory, found.overhead_ms) == pytest.approx(
        (T4_CONSTANTS.compute, T4_CONSTANTS.memory, T4_CONSTANTS.overhead_ms), rel=1e-6
    )


def test_another_device_is_met_within_the_error_bar() -> None:
    # Ultralytics' documentation: Orin NX, YOLOv8n, TensorRT fp16: 3.19 ms. Nothing was fitted to it.
    profile = yaml.safe_load((resource_dir("export/profiles") / "jetson-orin-nx.yaml").read_text(encoding="utf-8"))
    peaks = Peaks(profile["peak_tflops"], profile["bandwidth_gb_s"])
    assert estimate_ms(conv_layers("yolov8n", (640, 640)), peaks, T4_CONSTANTS) == pytest.approx(3.19, rel=ERROR)


def test_a_layer_takes_the_longer_of_arithmetic_and_traffic() -> None:
    peaks, all_of_it = Peaks(tflops=1.0, bandwidth_gb_s=1.0), Constants(1.0, 1.0, 0.5)
    # 10⁹ operations at 10¹² a second: 1 ms. 10⁶ values of two bytes at 10⁹ bytes a second: 2 ms.
    assert estimate_ms([(1e9, 1e3)], peaks, all_of_it) == pytest.approx(1.0 + 0.5)
    assert estimate_ms([(1e9, 1e6)], peaks, all_of_it) == pytest.approx(2.0 + 0.5)
    assert estimate_ms([(1e9, 1e6)], peaks, all_of_it, "fp32") == pytest.approx(4.0 + 0.5)
    assert estimate_ms([(1e9, 1e3)], peaks, Constants(0.5, 1.0, 0.0)) == pytest.approx(2.0)


def test_fitting_finds_the_constants_that_made_the_figures() -> None:
    rng = np.random.default_rng(0)
    peaks, made_with = Peaks(10.0, 100.0), Constants(0.4, 0.3, 0.7)
    networks = [[(float(a), float(b)) for a, b in rng.uniform(1e7, 3e9, (30, 2)) * (1, 1e-2)] for _ in range(6)]
    found = fit(networks, [estimate_ms(layers, peaks, made_with) for layers in networks], peaks)
    # The grid's steps are 7 % wide.
    assert found.compute == pytest.approx(0.4, rel=0.07) and found.memory == pytest.approx(0.3, rel=0.07)


@pytest.mark.material
def test_a_bundle_is_estimated_with_an_error_bar(material: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "half"
    export(material / "weights" / "yolo11n.pt", bundle, options=GraphOptions(precision="fp16"), size_hw=(64, 64))
    found = predict(bundle, "jetson-orin-nano", budget_ms=3.0)
    assert found.low_ms < found.estimate_ms < found.high_ms
    assert found.document()["measured"] is False
    assert predict(bundle, "jetson-orin-nano", 1000).fits == "yes"
    assert predict(bundle, "jetson-orin-nano", 0.1).fits == "no"


def test_a_bundle_that_the_profile_is_not_about_has_no_estimate(tiny_bundle: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"is about fp16 and the bundle is fp32; export it with --precision fp16$"):
        predict(tiny_bundle(), "jetson-orin-nano")


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("x86-cpu", r"is about cpu, and estimates are for TensorRT on NVIDIA GPUs alone; measure on the device$"),
        ("drive-orin", "peak_tflops and bandwidth"),
    ],
)
def test_an_unknown_number_is_no_reason_to_guess(profile: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        predict(tmp_path, profile)
    with pytest.raises(ConfigError, match=sentence):
        rank(profile, 20)


@pytest.mark.parametrize("budget_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_positive_number_is_refused(budget_ms: float, tmp_path: Path) -> None:
    sentence = f"--budget-ms must be a positive number of milliseconds, not '{budget_ms}'"
    with pytest.raises(ConfigError, match=sentence):
        predict(tmp_path, "jetson-orin-nano", budget_ms)
    with pytest.raises(ConfigError, match=sentence):
        rank("jetson-orin-nano", budget_ms)


def test_what_may_fit_stands_first_and_the_most_accurate_of_it_at_the_top() -> None:
    ranking = rank("jetson-orin-nano", 10.0)
    assert len(ranking) == 10
    fitting = [row for row in ranking if row["fits"] != "no"]
    assert 0 < len(fitting) < 10 and ranking[: len(fitting)] == fitting
    assert [row["coco_map50_95"] for row in fitting] == sorted((r["coco_map50_95"] for r in fitting), reverse=True)
    assert all(row["low_ms"] <= 10 for row in fitting)


def test_a_budget_end_to_end_is_never_surely_kept_by_an_estimate_of_inference() -> None:
    profile = "jetson-orin-nx"
    budget_ms = load_profile(profile).budget_p99_ms
    asked, own = rank(profile, budget_ms), rank(profile)
    assert {row["budget_covers"] for row in asked} == {"inference"} and asked[-1]["estimate_covers"] == "inference"
    assert {row["budget_covers"] for row in own} == {"end_to_end"} and own[0]["budget_ms"] == budget_ms
    assert {row["fits"] for row in asked} == {"yes", "no"} and {row["fits"] for row in own} == {
        "perhaps",
        "no",
    }
    assert [row["model"] for row in own] == [row["model"] for row in asked]


def test_a_network_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="'yolo11q'"):
        conv_layers("yolo11q", (640, 640))
