"""Parity: the real bundle passes, and each kind of damage is found by the check that is meant for it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.deploy import (
    GraphOptions,
    ParityResult,
    Tolerances,
    check_recordable,
    export,
    record_verification,
    verify_bundle,
)
from drivetl.deploy.matching import Agreement, compare_detections
from drivetl.deploy.tally import Tally, Worst
from drivetl.errors import BundleError, WeightsError
from drivetl.runtime import Bundle, Contract, Detections, Letterbox, open_bundle
from drivetl.runtime.contract import METADATA_KEY
from drivetl.runtime.preprocess import Preprocessor
from drivetl.runtime.selftest import SelfTest


@pytest.fixture
def altered(yolo_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the real bundle whose graph and contract were changed together, hashes and all."""

    def alter(
        graph: Callable[[Any], None] | None = None, change: Callable[[dict[str, Any]], None] | None = None
    ) -> Path:
        folder = tmp_path / "altered"
        shutil.copytree(yolo_bundle, folder)
        model = onnx.load(str(folder / "model.onnx"))
        document = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
        if graph is not None:
            graph(model)
        if change is not None:
            change(document)
        inner = {k: v for k, v in document.items() if k not in ("model_sha256", "verification")}
        entry = next(e for e in model.metadata_props if e.key == METADATA_KEY)
        entry.value = json.dumps(inner)
        data = model.SerializeToString()
        (folder / "model.onnx").write_bytes(data)
        document["model_sha256"] = hashlib.sha256(data).hexdigest()
        (folder / "contract.json").write_text(json.dumps(document), encoding="utf-8")
        return folder

    return alter


@pytest.mark.material
def test_the_real_bundle_is_its_weights(material: Path, yolo_bundle: Path, road_pictures: Path) -> None:
    seen: list[int] = []
    result = verify_bundle(
        yolo_bundle,
        material / "weights" / "yolo11n.pt",
        road_pictures,
        limit=5,
        progress=lambda label, done, total: seen.append(done),
    )
    # float32 sums in another order: measured 2e-5 and 0.01 px; a factor of five above that is still far below the gate.
    assert result.max_abs_diff_scores < 1e-4
    assert result.max_abs_diff_px < 0.05
    assert result.matched == 1.0 and result.agreement.matched > 10
    assert result.pictures == 5 and seen == list(range(6))
    assert result.worst.picture.endswith(".jpg")
    assert result.problems == ("accuracy was not compared (no boxes in the split?)",)
    assert result.with_accuracy(0.31, 0.3105).passed


@pytest.mark.material
def test_one_session_does_the_whole_of_verify(
    material: Path, yolo_bundle: Path, road_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT takes minutes to build each; the cache that its message advises is an option of verify, too."""
    opened: list[Any] = []
    session = Bundle.session

    def noted(bundle: Bundle, provider: str = "cpu", **options: Any) -> Any:
        opened.append(options["engine_cache"])
        return session(bundle, provider, **options)

    shutil.copytree(yolo_bundle, tmp_path / "bundle")
    monkeypatch.setattr(Bundle, "session", noted)
    # The CPU stands in for TensorRT, and has no engines to keep.
    monkeypatch.setattr("drivetl.verbs.verify.refuse_idle_cache", lambda provider, cache: None)
    words = ["--weights", str(material / "weights" / "yolo11n.pt"), "--data", str(road_pictures), "--limit", "1"]
    cache = tmp_path / "engines"
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "bundle"), *words, "--engine-cache", str(cache)])
    assert opened == [cache]
    assert done.exit_code == 1 and "accuracy was not compared (no boxes in the split?)" in done.output


@pytest.mark.material
def test_a_bundle_that_preprocesses_itself_is_its_weights(material: Path, tmp_path: Path, road_pictures: Path) -> None:
    weights = material / "weights" / "yolo11n.pt"
    options = GraphOptions(in_graph_preprocessing=True)
    bundle = export(weights, tmp_path / "out", size_hw=(256, 320), options=options).bundle
    result = verify_bundle(bundle, weights, road_pictures, limit=3)
    assert result.max_abs_diff_scores < 1e-4 and result.max_abs_diff_px < 0.05
    assert result.matched == 1.0 and result.with_accuracy(0.3, 0.3).passed


def _shift_boxes(model: Any) -> None:
    """Add half a pixel to every box of the graph's last addition-like output."""
    node = model.graph.node[-1]
    before = node.output[0]
    node.output[0] = "unshifted"
    offset = np.zeros((1, 84, 1), np.float32)
    offset[0, 0] = 0.5
    model.graph.initializer.append(numpy_helper.from_array(offset, "shift"))
    model.graph.node.append(onnx.helper.make_node("Add", ["unshifted", "shift"], [before]))


def _scale_scores(model: Any) -> None:
    node = model.graph.node[-1]
    before = node.output[0]
    node.output[0] = "unscaled"
    factor = np.ones((1, 84, 1), np.float32)
    factor[0, 4:] = 0.9
    model.graph.initializer.append(numpy_helper.from_array(factor, "factor"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["unscaled", "factor"], [before]))


def _bgr_for_rgb(model: Any) -> None:
    """Swap the first and third channel of the input inside the graph."""
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["swapped" if wanted == name else wanted for wanted in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "bgr"))
    model.graph.node.insert(0, onnx.helper.make_node("Gather", [name, "bgr"], ["swapped"], axis=1))


def _sigmoid_twice(model: Any) -> None:
    node = model.graph.node[-1]
    before = node.output[0]
    node.output[0] = "once"
    model.graph.initializer.append(numpy_helper.from_array(np.array([4, 80], np.int64), "parts"))
    model.graph.node.append(onnx.helper.make_node("Split", ["once", "parts"], ["boxes", "scores"], axis=1))
    model.graph.node.append(onnx.helper.make_node("Sigmoid", ["scores"], ["twice"]))
    model.graph.node.append(onnx.helper.make_node("Concat", ["boxes", "twice"], [before], axis=1))


def _other_class_order(model: Any) -> None:
    """Exchange the scores of the first and the third class; the names stay."""
    node = model.graph.node[-1]
    before = node.output[0]
    node.output[0] = "ordered"
    order = np.arange(84)
    order[[4, 6]] = order[[6, 4]]
    model.graph.initializer.append(numpy_helper.from_array(order, "order"))
    model.graph.node.append(onnx.helper.make_node("Gather", ["ordered", "order"], [before], axis=1))


@pytest.mark.material
@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (_bgr_for_rgb, "raw scores differ by"),
        (_sigmoid_twice, "raw scores differ by 5.00e-01"),
        (_other_class_order, "raw scores differ by"),
        (_shift_boxes, "raw boxes differ by 0.5"),
        (_scale_scores, "raw scores differ by"),
    ],
)
def test_a_changed_graph_is_found(
    graph: Callable[[Any], None],
    sentence: str,
    material: Path,
    altered: Callable[..., Path],
    road_pictures: Path,
) -> None:
    result = verify_bundle(altered(graph), material / "weights" / "yolo11n.pt", road_pictures, limit=2)
    result = result.with_accuracy(0.3, 0.3)
    assert not result.passed
    for expected in (sentence, "golden frames"):
        assert any(expected in problem for problem in result.problems), result.problems


def _other_padding(document: dict[str, Any]) -> None:
    document["letterbox"]["pad_value"] = 0


def _top_left(document: dict[str, Any]) -> None:
    document["letterbox"]["center"] = False


@pytest.mark.material
@pytest.mark.parametrize("change", [_other_padding, _top_left])
def test_another_letterbox_is_found_although_the_tensors_agree(
    change: Callable[[dict[str, Any]], None], material: Path, altered: Callable[..., Path], road_pictures: Path
) -> None:
    result = verify_bundle(altered(change=change), material / "weights" / "yolo11n.pt", road_pictures, limit=1)
    assert result.max_abs_diff_scores < 1e-4
    assert any(name == "a 1242x375 picture" for name in result.letterbox_mismatches)
    assert any("letterbox differs" in problem for problem in result.problems)


@pytest.mark.material
def test_a_mistake_in_what_the_car_runs_is_found_although_both_sides_get_it(
    material: Path, yolo_bundle: Path, road_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Preprocessor.__call__

    def blue_for_red(self: Preprocessor, image_bgr: Any) -> Any:
        return original(self, np.ascontiguousarray(image_bgr[..., ::-1]))

    monkeypatch.setattr(Preprocessor, "__call__", blue_for_red)
    result = verify_bundle(yolo_bundle, material / "weights" / "yolo11n.pt", road_pictures, limit=1)
    assert result.max_abs_diff_scores < 1e-4, "bundle and weights see the same wrong colours"
    assert any("letterbox differs" in problem for problem in result.problems)


@pytest.mark.material
def test_swapped_class_names_are_found(material: Path, altered: Callable[..., Path], road_pictures: Path) -> None:
    bundle = altered(change=lambda document: document["class_names"].reverse())
    result = verify_bundle(bundle, material / "weights" / "yolo11n.pt", road_pictures, limit=1)
    assert not result.classes_equal
    assert any("class names" in problem for problem in result.problems)


@pytest.mark.material
def test_other_weights_are_refused_by_their_hash(material: Path, yolo_bundle: Path, road_pictures: Path) -> None:
    with pytest.raises(WeightsError, match=r"yolov8n.pt' has sha256 082ee8ebbefc.*was exported from weights with 'bdd"):
        verify_bundle(yolo_bundle, material / "weights" / "yolov8n.pt", road_pictures)


def test_missing_weights_are_one_sentence(tiny_bundle: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read the weights"):
        verify_bundle(tiny_bundle(), tmp_path / "no.pt", tmp_path)


def _result(**changes: Any) -> ParityResult:
    good = ParityResult(
        provider="cpu",
        split="val",
        dataset_fingerprint="f",
        pictures=3,
        classes_equal=True,
        letterbox_mismatches=(),
        self_test=SelfTest(1, 4, 0, 0, 0.0, 0.0, True),
        max_abs_diff_scores=1e-5,
        max_abs_diff_px=0.01,
        agreement=Agreement(matched=2000, missed=1, excused=2),
        worst=Worst("a.jpg", 1e-5, 0.01),
        map50_95=(0.300, 0.3005),
    )
    return replace(good, **changes)


def test_the_verdict_within_every_tolerance_is_yes() -> None:
    result = _result()
    assert result.passed and result.problems == ()
    assert result.delta_map50_95 == pytest.approx(0.0005)
    assert result.document()["matched"] == pytest.approx(2000 / 2001)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"classes_equal": False}, "class names"),
        ({"letterbox_mismatches": ("b.jpg",)}, "letterbox differs on b.jpg"),
        ({"self_test": SelfTest(1, 4, 1, 0, 0.0, 0.0, False)}, "golden frames"),
        ({"max_abs_diff_scores": 0.0011}, "allowed 0.001"),
        ({"max_abs_diff_scores": float("nan")}, "raw scores differ by nan"),
        ({"max_abs_diff_px": 0.11}, "allowed 0.1 px"),
        ({"agreement": Agreement(1000, 2, 0)}, "99.80% of the detections match, required 99.9%"),
        ({"agreement": Agreement(0, 0, 3)}, "nothing to match"),
        ({"agreement": Agreement(2000, 0, 41)}, "41 detections without a partner stand at a threshold"),
        ({"agreement": Agreement(10, 0, 3)}, "where rounding explains 2 beside 10 that match"),
        ({"map50_95": (0.3, 0.2985)}, "mAP50-95 differs by -0.0015"),
        ({"map50_95": None}, "accuracy was not compared"),
    ],
)
def test_each_check_can_say_no_and_gives_its_figures(changes: dict[str, Any], sentence: str) -> None:
    result = _result(**changes)
    assert not result.passed
    assert any(sentence in problem for problem in result.problems)
    json.dumps(result.document(), allow_nan=False)


def test_a_split_without_boxes_leaves_accuracy_open() -> None:
    assert _result().with_accuracy(None, 0.0).delta_map50_95 is None


def test_the_verdict_is_written_into_the_bundle_and_the_bundle_still_opens(
    quick_export: Callable[..., Any], tmp_path: Path
) -> None:
    quick_export(tmp_path / "out")
    result = _result()
    record_verification(tmp_path / "out", result)
    bundle = open_bundle(tmp_path / "out")
    assert bundle.contract.verification == json.loads(json.dumps(result.document()))
    bundle.session()
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["verification"]["passed"] is True and report["export"]["opset"] == 17


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_broken_report_is_one_sentence(text: str | None, quick_export: Callable[..., Any], tmp_path: Path) -> None:
    quick_export(tmp_path / "out")
    report = tmp_path / "out" / "report.json"
    if text is None:
        report.unlink()
    else:
        report.write_text(text, encoding="utf-8")
    for call in (lambda: check_recordable(tmp_path / "out"), lambda: record_verification(tmp_path / "out", _result())):
        with pytest.raises(BundleError, match="export the bundle again"):
            call()
    assert open_bundle(tmp_path / "out").contract.verification is None


CONTRACT = Contract("images", (64, 64), "output0", (1, 6, 64), ("car", "bus"), Letterbox((64, 64)))
LIMITS = {"min_iou": 0.99, "confidence": 0.05, "nms_iou": 0.7, "near": 1e-3}


def _detections(*rows: tuple[float, ...]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_equal_detections_match() -> None:
    both = _detections((0, 0, 100, 100, 0.9, 0), (0, 0, 100, 100, 0.8, 1))
    assert compare_detections(both, both, **LIMITS) == Agreement(matched=2)


def test_a_miss_at_the_confidence_threshold_is_excused_and_a_clear_one_is_not() -> None:
    here = _detections((0, 0, 10, 10, 0.0509, 0), (50, 0, 60, 10, 0.0511, 0))
    assert compare_detections(here, _detections(), **LIMITS) == Agreement(missed=1, excused=1)
    assert compare_detections(_detections(), here, **LIMITS) == Agreement(missed=1, excused=1)


@pytest.mark.parametrize(
    ("width", "class_id", "expected"),
    [
        (70.05, 0, Agreement(matched=1, excused=1)),  # overlap 0.7005: just about suppressed over there
        (71.0, 0, Agreement(matched=1, missed=1)),  # overlap 0.71: rounding does not explain it
        (70.05, 1, Agreement(matched=1, missed=1)),  # another class suppresses nothing
    ],
)
def test_a_miss_at_the_suppression_limit_is_excused(width: float, class_id: int, expected: Agreement) -> None:
    strong = (0.0, 0.0, 100.0, 100.0, 0.9, 0.0)
    here = _detections(strong, (0, 0, width, 100, 0.8, class_id))
    assert compare_detections(here, _detections(strong), **LIMITS) == expected


def test_suppression_excuses_only_what_a_surer_and_matched_box_removes() -> None:
    """The overlap is 0.7005 in every case, where a survivor over there could just about have suppressed the box."""
    box, other = (0.0, 0.0, 100.0, 100.0), (0.0, 0.0, 70.05, 100.0)
    unsure, sure = _detections((*box, 0.7, 0)), _detections((*other, 0.8, 0))
    # Its own counterpart, cut by three tenths: neither has a partner, and neither explains the other.
    assert compare_detections(unsure, sure, **LIMITS) == Agreement(missed=2)
    # A survivor that is less confident suppressed nothing.
    here, there = _detections((*box, 0.8, 0), (*other, 0.7, 0)), _detections((*other, 0.7, 0))
    assert compare_detections(here, there, **LIMITS) == Agreement(matched=1, missed=1)
    # Where nothing is suppressed, as with the one-to-one head, nothing is excused by it.
    here, there = _detections((*box, 0.9, 0), (*other, 0.7, 0)), _detections((*box, 0.9, 0))
    assert compare_detections(here, there, **LIMITS) == Agreement(matched=1, excused=1)
    assert compare_detections(here, there, **{**LIMITS, "nms_iou": None}) == Agreement(matched=1, missed=1)


@pytest.mark.parametrize("confidence", [0.9, 0.08])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_boxes_that_are_simply_wrong_do_not_pass(precision: str, confidence: float) -> None:
    """99 of 100 boxes cut by three tenths, near the limit of suppression; and once more just above the threshold."""
    contract = replace(CONTRACT, precision=precision)
    limits = Tolerances.for_precision(contract)
    right = [(300.0 * n, 0.0, 300.0 * n + 100, 100.0, confidence, 0.0) for n in range(100)]
    wrong = [right[0], *((left, top, right_px - 30, *rest) for left, top, right_px, *rest in right[1:])]
    agreement = compare_detections(
        _detections(*right),
        _detections(*wrong),
        min_iou=limits.iou,
        confidence=limits.confidence,
        nms_iou=contract.thresholds.iou,
        near=limits.near,
    )
    assert agreement.matched == 1 and not _result(agreement=agreement, tolerances=limits).passed
    if confidence == 0.9:
        assert agreement == Agreement(matched=1, missed=198)


@pytest.mark.parametrize(("decoding", "expected"), [("xyxy_nms", 0.7), ("xyxy_one_to_one", None)])
def test_a_head_that_answers_once_knows_no_suppression(
    decoding: str, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def noted(*_: Any, nms_iou: float | None, **__: Any) -> Agreement:
        asked.append(nms_iou)
        return Agreement()

    monkeypatch.setattr("drivetl.deploy.tally.compare_detections", noted)
    detector: Any = SimpleNamespace(contract=replace(CONTRACT, decoding=decoding))
    tally = Tally(detector, lambda tensor: tensor, lambda image, size_hw: image, Tolerances())
    tally._agree(_detections(), _detections())
    assert asked == [expected]


def test_a_box_off_by_more_than_a_hundredth_is_no_match() -> None:
    here, there = _detections((0, 0, 100, 100, 0.9, 0)), _detections((0, 0, 98.5, 100, 0.9, 0))
    assert compare_detections(here, there, **LIMITS) == Agreement(missed=2)
