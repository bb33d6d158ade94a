"""Every family from its YAML, static and dynamic, one picture and two, decoded as Ultralytics decodes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.deploy import GraphOptions, export, verify_bundle
from drivetl.errors import ConfigError, WeightsError
from drivetl.runtime import Detections, Detector, to_tensor
from drivetl.runtime.letterbox import Geometry
from drivetl.runtime.overlap import match, visible
from drivetl.runtime.selftest import self_test
from drivetl.yolo import TorchModel

SIZE_HW = (128, 160)
OTHER_HW = (96, 224)
# YAML, and whether the one-to-one head is asked for. Sizes differ in channels and repeats only, except that m, l and x
# of YOLO11 and YOLO26 are built of other blocks: one of them stands for those, with the channels of a tenth of it.
FAMILIES = (("yolov8n", False), ("yolo11n", False), ("yolo26n", False), ("yolo26n", True))
STATIC, STATIC_2 = GraphOptions(), GraphOptions(batch=2)
DYNAMIC_2 = GraphOptions(batch=2, dynamic=True, size_range_hw=((64, 64), (256, 256)))
CASES = [(*family, options) for family in FAMILIES for options in (STATIC_2, DYNAMIC_2)]
CASES += [("yolo26m", False, STATIC), ("yolo11n", False, replace(STATIC_2, in_graph_nms=True))]


def _called(case: tuple[str, bool, GraphOptions]) -> str:
    architecture, one_to_one, options = case
    words = [architecture, "one-to-one" if one_to_one else "raw", "dynamic" if options.dynamic else "static"]
    return "-".join([*words, str(options.batch), *(["nms"] if options.in_graph_nms else [])])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a network with random weights whose scores and boxes spread as those of a trained one might."""

    @cache
    def write(architecture: str) -> Path:
        from drivetl.yolo.ultra import DEFAULT_CFG_DICT, DetectionModel, torch, yaml_model_load

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            yaml = yaml_model_load(f"{architecture}.yaml")
            scale = yaml["scale"]
            depth, width, most = yaml["scales"][scale]
            yaml["scales"][scale] = [min(depth, 0.5), min(width, 0.125), most]
            model: Any = DetectionModel(yaml, nc=3, verbose=False)
        pictures = torch.from_numpy(np.concatenate([to_tensor(picture) for picture in _pictures(SIZE_HW, 8, seed=1)]))
        _settle(model, pictures, torch)
        model.names = {0: "car", 1: "bus", 2: "truck"}
        arguments = {**DEFAULT_CFG_DICT, "task": "detect", "mode": "train", "imgsz": 64}
        model.args = dict(arguments)
        path = tmp_path_factory.mktemp(architecture) / "weights.pt"
        torch.save({"epoch": -1, "model": model, "train_args": arguments, "license": "AGPL-3.0"}, path)
        return path

    return write


@pytest.mark.parametrize(
    ("size_hw", "range_hw", "sentence"),
    [
        ((96, 96), ((32, 32), (64, 64)), r"input size 96x96 lies outside --size-range '32x32,64x64'; give an --imgsz"),
        ((32, 64), ((64, 64), (96, 96)), r"input size 32x64 lies outside"),
        (None, ((96, 96), (128, 128)), r"input size 64x64 lies outside"),
        ((64, 64), ((64, 50), (64, 96)), r"--size-range takes multiples of 32 in pixels, not '64x50,64x96'"),
        ((64, 64), ((64, 64), (64, 100)), r"--size-range takes multiples of 32"),
    ],
)
def test_a_size_range_holds_the_usual_size_and_fits_the_stride(
    size_hw: tuple[int, int] | None,
    range_hw: tuple[tuple[int, int], tuple[int, int]],
    sentence: str,
    checkpoint: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    options = GraphOptions(dynamic=True, size_range_hw=range_hw)
    with pytest.raises(ConfigError, match=sentence):
        export(checkpoint("yolo11n"), tmp_path / "out", size_hw=size_hw, options=options)
    assert not (tmp_path / "out").exists()


def _settle(model: Any, pictures: Any, torch: Any) -> None:
    """Measure the batch norms on pictures, then give the last layers' outputs a mean and a spread.

    Without it what a picture gives fades from layer to layer or explodes. Scores around one half let most boxes pass
    and do not saturate, because ties are broken by chance; sides are positive.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    head = model.model[-1]
    head.end2end = False
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        model.train()(pictures)
        for norm in norms:
            norm.momentum = 0.03
        seen = model.eval()(pictures)[1]
        seen = seen.get("one2many", seen)
        # Of the two kinds of head, one gives a side itself and one sixteen scores for its length.
        box_spread, box_bias = (0.3, 2.0) if head.reg_max == 1 else (2.0, 0.0)
        for kind, spread, bias, branches in (
            ("boxes", box_spread, box_bias, ("cv2", "one2one_cv2")),
            ("scores", 0.7, 0.0, ("cv3", "one2one_cv3")),
        ):
            factor = spread / seen[kind].std()
            for level in (level for name in branches for level in getattr(head, name, None) or ()):
                level[-1].weight.mul_(factor)
                level[-1].bias.fill_(bias)


def _pictures(size_hw: tuple[int, int], count: int = 2, seed: int = 4) -> list[np.ndarray]:
    """Return flat patches under noise: to deep layers, pictures of noise alone all look alike."""
    rng = np.random.default_rng(seed)
    patches = [rng.integers(0, 256, (5, 7, 3), dtype=np.uint8) for _ in range(count)]
    large = [cv2.resize(patch, size_hw[::-1], interpolation=cv2.INTER_NEAREST) for patch in patches]
    return [np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8) for picture in large]


def _torch_output(path: Path, tensor: np.ndarray, one_to_one: bool) -> np.ndarray:
    from drivetl.yolo import load_checkpoint
    from drivetl.yolo.ultra import torch

    model: Any = load_checkpoint(path).model
    model.model[-1].end2end = one_to_one
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(tensor))[0].numpy())


def _ultralytics(raw: np.ndarray, geometry: Geometry, one_to_one: bool) -> Detections:
    from drivetl.yolo.ultra import torch, ultralytics

    nms, ops = (importlib.import_module(f"{ultralytics.__name__}.utils.{name}") for name in ("nms", "ops"))
    rows = nms.non_max_suppression(
        torch.from_numpy(raw.copy()), conf_thres=0.25, iou_thres=0.7, max_det=300, end2end=one_to_one
    )[0]
    boxes = ops.scale_boxes(geometry.input_size_hw, rows[:, :4].clone(), geometry.image_size_hw)
    return Detections(boxes.numpy(), rows[:, 4].numpy(), rows[:, 5].numpy().astype(np.int64))


def _assert_same(ours: Detections, theirs: Detections, *, exact: bool) -> None:
    """Exact: decoded from the very same output. Otherwise rounding may decide on a detection in a hundred."""
    ours, theirs = visible(ours), visible(theirs)
    pairs = match(ours, theirs, 0.99)
    lost = max(len(ours), len(theirs)) - len(pairs)
    assert lost == 0 if exact else lost <= 0.02 * len(ours), (len(ours), len(theirs), len(pairs))
    first, second = [i for i, _ in pairs], [j for _, j in pairs]
    # Of boxes that lie on one another, another one may be the partner; then their confidences differ.
    np.testing.assert_allclose(
        np.sort(ours.confidence[first]), np.sort(theirs.confidence[second]), rtol=0, atol=1e-7 if exact else 5e-3
    )
    # Two divisions in float32 on coordinates up to 224; Ultralytics sets classes apart only while it suppresses.
    far = np.abs(ours.xyxy_px[first] - theirs.xyxy_px[second]).max()
    assert far <= (2e-3 if exact else 0.1)


@pytest.mark.parametrize(("architecture", "one_to_one", "options"), CASES, ids=[_called(case) for case in CASES])
def test_a_family_is_exported_run_and_decoded(
    architecture: str, one_to_one: bool, options: GraphOptions, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = checkpoint(architecture)
    options = replace(options, one_to_one=one_to_one)
    out = export(weights, tmp_path / "bundle", size_hw=SIZE_HW, options=options).bundle
    assert self_test(out).passed
    for size_hw in (SIZE_HW, OTHER_HW) if options.dynamic else (SIZE_HW,):
        detector = Detector(out, size_hw=size_hw)
        pictures = _pictures(size_hw)
        tensor = np.concatenate([to_tensor(picture) for picture in pictures])
        reference = _torch_output(weights, tensor, one_to_one)
        raw = np.concatenate([detector.infer(tensor[i : i + 1]) for i in range(2)])
        if options.in_graph_nms:
            raw = reference
        assert raw.shape == reference.shape
        if not one_to_one:  # the order of a top-k hangs on the last bit
            # The bounds of `drivetl verify`; coordinates reach beyond the picture here, hence the relative part.
            np.testing.assert_allclose(raw[:, :4], reference[:, :4], rtol=1e-3, atol=0.1)
            np.testing.assert_allclose(raw[:, 4:], reference[:, 4:], rtol=0, atol=2e-3)
        together = detector.batch(pictures)
        for index, picture in enumerate(pictures):
            found, geometry = detector(picture), detector.preprocess(picture)[1]
            best = raw[index, :, 4] if one_to_one else raw[index, 4:].max(axis=0)
            assert (best > 0.25).sum() >= 100 and len(found) >= 20
            exact = not options.in_graph_nms
            _assert_same(found, _ultralytics(raw[index : index + 1], geometry, one_to_one), exact=exact)
            _assert_same(found, _ultralytics(reference[index : index + 1], geometry, one_to_one), exact=False)
            _assert_same(together[index], found, exact=False)


@pytest.mark.material
def test_verify_holds_a_one_to_one_bundle_against_the_same_head(
    checkpoint: Callable[[str], Path], road_pictures: Path, tmp_path: Path
) -> None:
    weights = checkpoint("yolo26n")
    # So small that the top-k takes every box: with more, the last bit decides on the last places.
    bundles = {
        head: export(weights, tmp_path / head, size_hw=(64, 96), options=GraphOptions(one_to_one=head == "one")).bundle
        for head in ("one", "many")
    }
    result = verify_bundle(bundles["one"], weights, road_pictures)
    assert result.problems == ("accuracy was not compared (no boxes in the split?)",)
    assert result.agreement.matched > 100 and 0 < result.max_abs_diff_px < 0.1
    # The contract's word decides which head is asked; the graph's rows would be compared with another head's boxes.
    assert verify_bundle(bundles["many"], weights, road_pictures).agreement.matched > 100


def test_a_family_without_the_head_says_so(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no one-to-one head, as YOLO26 has; leave --head one-to-one out"):
        export(checkpoint("yolov8n"), tmp_path / "out", size_hw=SIZE_HW, options=GraphOptions(one_to_one=True))
    with pytest.raises(WeightsError, match="has no one-to-one head"):
        TorchModel(checkpoint("yolov8n"), one_to_one=True)
