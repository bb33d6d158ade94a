from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from drivetl.adapt.head_transfer import HeadRow, plan_transfer, transfer_head, transfer_table
from drivetl.taxonomy import DRIVING_CLASSES
from drivetl.yolo import load_checkpoint, reference_letterbox
from drivetl.yolo.ultra import DetectionModel

KITTI = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
BDD100K = (
    "pedestrian",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
    "traffic light",
    "traffic sign",
)
DAWN = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
# The street part of COCO's 80 names, among others.
COCO = ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "boat", "traffic light", "stop sign", "cat")


@pytest.fixture(scope="module", params=["yolo11n", "yolov8n", "yolo26n"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    built = DetectionModel(f"{request.param}.yaml", nc=len(COCO), verbose=False)
    built.names = dict(enumerate(COCO))
    # A new model has the same bias in every row; with these a row taken by position would show.
    with torch.no_grad():
        for head in class_heads(built):
            for level in head:
                level[-1].bias.uniform_(-3, 3)
    return built


def class_heads(model: Any) -> list[Any]:
    head = model.model[-1]
    return [head.cv3] if getattr(head, "one2one_cv3", None) is None else [head.cv3, head.one2one_cv3]


@pytest.mark.parametrize(
    ("names", "warm"),
    [(KITTI, 7), (BDD100K, 10), (DRIVING_CLASSES, 10), (DAWN, 6)],
    ids=["kitti", "bdd", "own", "dawn"],
)
def test_as_many_rows_are_warm_as_the_project_promises(names: tuple[str, ...], warm: int) -> None:
    assert sum(bool(row.sources) for row in plan_transfer(names, COCO)) == warm


def test_each_row_says_where_it_comes_from() -> None:
    assert plan_transfer(KITTI, COCO) == (
        HeadRow("Car", ("car",), "same"),
        HeadRow("Van", ("car",), "relative"),
        HeadRow("Truck", ("truck",), "same"),
        HeadRow("Pedestrian", ("person",), "synonym"),
        HeadRow("Person_sitting", ("person",), "relative"),
        HeadRow("Cyclist", ("person", "bicycle"), "relative"),
        HeadRow("Tram", ("train",), "synonym"),
        HeadRow("Misc", (), "none"),
    )


def test_the_table_reads_row_by_row() -> None:
    lines = transfer_table(plan_transfer(("Cyclist", "Misc"), COCO))
    assert lines == [
        "Head transfer: 1 of 2 class rows start from the checkpoint's",
        "  Cyclist  <-  person + bicycle  [relative, mean]",
        "  Misc     <-  (untrained)  [none]",
    ]


def test_rows_are_copied_averaged_or_given_the_prior_in_every_head(model: Any) -> None:
    changed = deepcopy(model)
    transfer_head(changed, KITTI, seed=0)
    strides = model.model[-1].stride.tolist()
    for old_head, new_head in zip(class_heads(model), class_heads(changed), strict=True):
        for old, new, stride in zip(old_head, new_head, strides, strict=True):
            before, after = old[-1], new[-1]
            assert after.in_channels == before.in_channels
            assert torch.equal(after.weight[0], before.weight[2])  # Car <- car
            assert torch.equal(after.bias[3], before.bias[0])  # Pedestrian <- person
            torch.testing.assert_close(after.weight[5], (before.weight[0] + before.weight[1]) / 2)  # Cyclist
            torch.testing.assert_close(after.bias[5], (before.bias[0] + before.bias[1]) / 2)
            assert after.bias[7].item() == pytest.approx(np.log(5 / 8 / (640 / stride) ** 2), abs=1e-5)  # Misc


def test_scores_and_boxes_of_the_old_classes_are_unchanged(model: Any) -> None:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    changed = deepcopy(model)
    transfer_head(changed, ("dragon", "traffic light", "car"), seed=0)
    for each in (model, changed):
        each.eval()
        each.model[-1].end2end = False
    with torch.inference_mode():
        old, new = model(image)[0], changed(image)[0]
    assert new.shape[1] == 4 + 3
    torch.testing.assert_close(new[:, :4], old[:, :4])
    torch.testing.assert_close(new[:, 5], old[:, 4 + 8], atol=1e-6, rtol=0)
    torch.testing.assert_close(new[:, 6], old[:, 4 + 2], atol=1e-6, rtol=0)


def test_as_many_classes_with_other_names_are_not_copied_by_position(model: Any) -> None:
    changed = deepcopy(model)
    rows = transfer_head(changed, tuple(f"class {i}" for i in range(len(COCO))), seed=0)
    assert {row.kind for row in rows} == {"none"}
    for old_head, new_head in zip(class_heads(model), class_heads(changed), strict=True):
        for old, new in zip(old_head, new_head, strict=True):
            assert not torch.isclose(old[-1].bias, new[-1].bias).any()


def test_the_seed_decides_the_untrained_rows(model: Any) -> None:
    drawn = []
    for seed in (0, 0, 1):
        changed = deepcopy(model)
        transfer_head(changed, ("dragon",), seed=seed)
        drawn.append(changed.model[-1].cv3[0][-1].weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.material
@pytest.mark.parametrize("name", ["yolo11n", "yolov8n"])
def test_a_real_picture_scores_the_same_after_the_transfer(name: str, material: Path) -> None:
    path = material / "weights" / f"{name}.pt"
    image = cv2.imread(str(material / "data" / "kitti-day" / "image_2" / "000046.jpeg"))
    boxed = reference_letterbox(image, (128, 416))
    tensor = torch.from_numpy(np.ascontiguousarray(boxed[None, :, :, ::-1].transpose(0, 3, 1, 2))).float() / 255
    source = load_checkpoint(path)
    changed: Any = load_checkpoint(path).model
    transfer_head(changed, KITTI, seed=0)
    with torch.inference_mode():
        old: Any = source.model(tensor)[0]
        new = changed(tensor)[0]
    car = source.names.index("car")
    assert float(old[:, 4 + car].max()) > 0.3
    torch.testing.assert_close(new[:, 4], old[:, 4 + car], atol=1e-6, rtol=0)
    torch.testing.assert_close(new[:, :4], old[:, :4], atol=1e-3, rtol=0)
