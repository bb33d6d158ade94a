"""Opening bundles: whole ones work, and every way to be broken is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetl.errors import BundleError, ConfigError
from drivetl.runtime import Contract, Detector, open_bundle

Make = Callable[..., Path]


def test_a_detector_finds_the_bright_cell_where_it_is(tiny_bundle: Make) -> None:
    detector = Detector(tiny_bundle(), confidence=0.5)
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[16:32, 48:64] = 255  # the cell in row 1, column 3 once 128 pixels became 64
    found = detector(picture)
    # The cell's middle is (28, 12) in the input; a box of 16 around it, times two.
    np.testing.assert_allclose(found.xyxy_px, [[40, 8, 72, 40]])
    np.testing.assert_allclose(found.confidence, [1.0], rtol=1e-6)
    assert found.class_id.tolist() == [0]
    assert detector.provider == "cpu"


def test_a_detector_keeps_no_second_graph_and_its_bundle_opens_another(tiny_bundle: Make) -> None:
    first = Detector(open_bundle(tiny_bundle()))
    assert first.bundle.model == b""
    picture = np.full((128, 128, 3), 255, np.uint8)
    assert len(Detector(first.bundle)(picture)) == len(first(picture)) > 0


def test_the_contract_survives_the_way_through_json(tiny_bundle: Make) -> None:
    bundle = open_bundle(tiny_bundle())
    document = json.loads(json.dumps(bundle.contract.document()))
    assert Contract.from_document(document, "again") == bundle.contract
    assert "model_sha256" not in bundle.contract.metadata_document()
    assert "verification" not in bundle.contract.metadata_document()


def _preprocess_inside(model: Any) -> None:
    from drivetl.deploy.graph import preprocess_in_graph

    preprocess_in_graph(model)
    entry = model.metadata_props[0]
    document = json.loads(entry.value)
    document["input"] = UINT8_INPUT
    entry.value = json.dumps(document)


UINT8_INPUT = {
    "name": "images_bgr",
    "shape_nhwc": [1, 64, 64, 3],
    "dtype": "uint8",
    "colour_order": "BGR",
    "scale": "1",
}


def test_a_graph_that_preprocesses_gives_the_same_detections(tiny_bundle: Make) -> None:
    inside = tiny_bundle(
        "inside", graph=_preprocess_inside, change=lambda document: document.update(input=dict(UINT8_INPUT))
    )
    picture = np.random.default_rng(3).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    wanted, found = Detector(tiny_bundle(), confidence=0.4)(picture), Detector(inside, confidence=0.4)(picture)
    assert len(found) > 5
    np.testing.assert_array_equal(found.xyxy_px, wanted.xyxy_px)
    np.testing.assert_array_equal(found.confidence, wanted.confidence)
    contract = open_bundle(inside).contract
    assert Contract.from_document(contract.document(), "again") == contract
    assert contract.input_shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("colour_order", "RGB", "colour_order is 'RGB', expected BGR"),
        ("scale", "1/255", "scale is '1/255', expected 1;"),
        ("shape_nhwc", [1, 3, 64, 64], r"expected \[batch, height, width, 3\]"),
        ("shape_nhwc", [1, 64, 8193, 3], "sides up to 8192"),
        ("dtype", "float16", "expected float32 or uint8"),
    ],
)
def test_a_picture_input_that_contradicts_itself_is_refused(
    key: str, value: object, sentence: str, tiny_bundle: Make
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["input"] = {**UINT8_INPUT, key: value}

    with pytest.raises(BundleError, match=sentence):
        open_bundle(tiny_bundle(change=change))


def test_a_contract_that_says_uint8_of_a_float_graph_is_refused(tiny_bundle: Make) -> None:
    bundle = open_bundle(tiny_bundle(change=lambda document: document.update(input=dict(UINT8_INPUT))))
    with pytest.raises(BundleError, match=r"takes .*tensor\(float\)"):
        bundle.session()


def test_a_missing_folder_a_file_and_an_onnx_file_are_no_bundles(tiny_bundle: Make, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere' is missing.*drivetl export"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"model.onnx' is an ONNX file, not a bundle"):
        open_bundle(tiny_bundle() / "model.onnx")


@pytest.mark.parametrize("name", ["contract.json", "model.onnx"])
def test_a_missing_file_is_named(name: str, tiny_bundle: Make) -> None:
    folder = tiny_bundle()
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"it has no {name}"):
        open_bundle(folder)


def test_a_changed_graph_is_noticed_before_onnxruntime_sees_it(tiny_bundle: Make) -> None:
    folder = tiny_bundle()
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"has sha256 .* was changed after export"):
        open_bundle(folder)


def test_a_newer_schema_says_which_drivetl_reads_it(tiny_bundle: Make) -> None:
    folder = tiny_bundle(change=lambda document: document.update(schema_version=2))
    with pytest.raises(BundleError, match="schema 2, and this drivetl reads schema 1"):
        open_bundle(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "[" * 100_000], ids=range(6))
def test_a_contract_that_is_no_mapping_is_refused(text: str, tiny_bundle: Make) -> None:
    folder = tiny_bundle()
    (folder / "contract.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match="contract"):
        open_bundle(folder)


def test_an_enormous_contract_is_not_read(tiny_bundle: Make) -> None:
    folder = tiny_bundle()
    with (folder / "contract.json").open("r+b") as handle:
        handle.truncate(5 << 20)
    with pytest.raises(BundleError, match="is larger than"):
        open_bundle(folder)


def _paths(document: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in document.items():
        found.append((*prefix, key))
        if isinstance(value, dict) and key not in ("tools", "verification"):
            found += _paths(value, (*prefix, key))
    return found


@pytest.mark.parametrize("kind", ["missing", "wrong"])
def test_every_broken_field_is_named(kind: str, tiny_bundle: Make) -> None:
    folder = tiny_bundle()
    good = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    paths = _paths(good)
    assert len(paths) > 25
    for path in paths:
        broken = json.loads(json.dumps(good))
        place = broken
        for key in path[:-1]:
            place = place[key]
        if kind == "missing":
            del place[path[-1]]
        else:
            place[path[-1]] = -1.5
        (folder / "contract.json").write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(BundleError, match=path[-1]):
            open_bundle(folder)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "batch of the input alone": (lambda d: d["input"].update(shape_nchw=[2, 3, 64, 64]), "output.shape"),
    "side too large": (lambda d: d["input"].update(shape_nchw=[1, 3, 9000, 64]), "shape_nchw"),
    "BGR": (lambda d: d["input"].update(colour_order="BGR"), "expected RGB"),
    "class too many": (lambda d: d["class_names"].append("third"), "output.shape"),
    "unknown decoding": (lambda d: d["output"].update(decoding="xyxy"), "cxcywh_scores"),
    "confidence over one": (lambda d: d["thresholds"].update(confidence=1.5), "from 0 to 1"),
    "not a number": (lambda d: d["thresholds"].update(iou=float("nan")), "thresholds.iou"),
    "true as a number": (lambda d: d["thresholds"].update(max_detections=True), "max_detections"),
    "pad above a byte": (lambda d: d["letterbox"].update(pad_value=256), "pad_value"),
}


@pytest.mark.parametrize(("change", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_values_out_of_range_are_refused(
    change: Callable[[dict[str, Any]], None], sentence: str, tiny_bundle: Make
) -> None:
    with pytest.raises(BundleError, match=sentence):
        open_bundle(tiny_bundle(change=change))


def _swap_classes(document: dict[str, Any]) -> None:
    document["class_names"].reverse()


def _other_size(document: dict[str, Any]) -> None:
    document["input"]["shape_nchw"] = [1, 3, 96, 96]


def _other_output(document: dict[str, Any]) -> None:
    document["output"]["name"] = "elsewhere"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(_swap_classes, "a different contract"), (_other_size, "takes"), (_other_output, "gives")],
)
def test_a_contract_that_contradicts_its_graph_is_refused(
    change: Callable[[dict[str, Any]], None], sentence: str, tiny_bundle: Make
) -> None:
    bundle = open_bundle(tiny_bundle(change=change))
    with pytest.raises(BundleError, match=f"{sentence}.*not what contract.json beside it says"):
        bundle.session()


def test_a_graph_without_a_contract_in_its_metadata_is_refused(tiny_bundle: Make) -> None:
    def strip(model: Any) -> None:
        del model.metadata_props[:]

    with pytest.raises(BundleError, match="or none"):
        open_bundle(tiny_bundle(graph=strip)).session()


def test_tensors_outside_the_graph_are_refused_before_anything_is_opened(tiny_bundle: Make, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(6 * 3 * 64 * 4))

    def move_out(model: Any) -> None:
        from onnx import TensorProto

        tensor = next(t for t in model.graph.initializer if t.name == "weight")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../secret"

    with pytest.raises(BundleError, match="tensors stored outside the file"):
        open_bundle(tiny_bundle(graph=move_out))


def test_terminal_markup_in_a_path_is_shown_not_obeyed(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path / "\x1b[31mred")
    assert "\x1b" not in str(caught.value)


def test_a_threshold_outside_0_to_1_is_refused(tiny_bundle: Make) -> None:
    with pytest.raises(ConfigError, match="confidence is 25; it is a share"):
        Detector(tiny_bundle(), confidence=25)
