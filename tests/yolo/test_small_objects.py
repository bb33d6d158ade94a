"""Crops around small objects: the window, the boxes to the pixel, and the loader that shows them."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from drivetl.yolo.dataset import ReadOnlyDataset
from drivetl.yolo.small_objects import choose_window, crop_boxes
from drivetl.yolo.ultra import DEFAULT_CFG_DICT

SIZE_HW = (128, 192)


def draw(root: Path, factor: int = 1, *, with_small: bool = True) -> Path:
    """One picture of 192x128 (times ``factor``): a small white box, a large grey one, and the rest black."""
    image = np.zeros((SIZE_HW[0] * factor, SIZE_HW[1] * factor, 3), np.uint8)
    lines = ["1 0.25 0.5 0.5 1.0"]
    image[:, : 96 * factor] = 90
    if with_small:
        image[40 * factor : 56 * factor, 120 * factor : 144 * factor] = 255
        lines.append(f"0 {132 / 192} {48 / 128} {24 / 192} {16 / 128}")
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "train" / "a.png"), image)
    (root / "labels" / "train" / "a.txt").write_text("\n".join(lines) + "\n")
    return root


def loader(root: Path, share: float) -> ReadOnlyDataset:
    hyp = SimpleNamespace(**{**DEFAULT_CFG_DICT, "mosaic": 0.0, "augmentations": []})
    data = {"names": {0: "car", 1: "bus"}, "channels": 3}
    dataset = ReadOnlyDataset(
        img_path=str(root / "images" / "train"), imgsz=192, augment=True, hyp=hyp, data=data, task="detect"
    )
    dataset.small_object_crops = share
    return dataset


def test_boxes_are_clipped_and_left_out_when_mostly_outside() -> None:
    boxes = np.array([[10, 10, 20, 20], [0, 0, 20, 10], [0, 10, 8, 20], [45, 45, 60, 55], [50, 50, 60, 60]], float)
    inside, kept = crop_boxes(boxes, (5, 5, 50, 50))
    # Inside: all; 15 x 5 of 200; 3 x 10 of 80; 5 x 5 of 150; nothing.
    assert kept.tolist() == [0]
    assert inside.tolist() == [[5, 5, 15, 15]]
    inside, kept = crop_boxes(boxes, (5, 0, 55, 55))
    # All; 15 x 10 of 200; 3 x 10 of 80; 10 x 10 of 150; 5 x 5 of 100.
    assert kept.tolist() == [0, 1, 3]
    assert inside.tolist() == [[5, 10, 15, 20], [0, 0, 15, 10], [40, 45, 50, 55]]


def test_the_window_is_half_the_picture_and_holds_the_object() -> None:
    boxes = np.array([[0, 0, 150, 100], [120, 40, 144, 56], [190, 0, 192, 128]], float)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        window = choose_window(boxes, np.array([False, True, False]), SIZE_HW, rng)
        assert window is not None
        left, top, right, bottom = window
        assert (right - left, bottom - top) == (96, 64)
        assert 0 <= left <= 120 and 144 <= right <= 192 and 0 <= top <= 40 and 56 <= bottom <= 128
        seen.add((left, top))
    assert len(seen) > 150, "the object stands at random places"
    # One that is longer than the window is centred as well as the picture allows.
    assert choose_window(boxes, np.array([False, False, True]), SIZE_HW, rng) == (96, 32, 192, 96)
    assert choose_window(boxes, np.zeros(3, bool), SIZE_HW, rng) is None


@pytest.mark.parametrize("factor", [1, 2])
def test_the_crop_shows_the_object_twice_as_large_under_its_box(tmp_path: Path, factor: int) -> None:
    dataset = loader(draw(tmp_path, factor), 1.0)
    random.seed(3)
    label = dataset.get_image_and_label(0)
    assert label["img"].shape == (*SIZE_HW, 3) and label["img"].dtype == np.uint8
    number = label["cls"][:, 0].tolist().index(0)
    x, y, w, h = label["instances"].bboxes[number] * (192, 128, 192, 128)
    assert (w, h) == pytest.approx((48, 32), abs=1e-3)
    rows, columns = np.nonzero(label["img"][..., 0] > 127)
    assert (columns.min(), columns.max() + 1) == pytest.approx((x - w / 2, x + w / 2), abs=1)
    assert (rows.min(), rows.max() + 1) == pytest.approx((y - h / 2, y + h / 2), abs=1)
    random.seed(3)
    again = dataset.get_image_and_label(0)
    assert np.array_equal(again["img"], label["img"])
    random.seed(4)
    assert not np.array_equal(dataset.get_image_and_label(0)["img"], label["img"])
    if factor == 2:
        # From the file's own pixels: the border of the object is as sharp as it was drawn.
        row = label["img"][round(y), :, 0].astype(int)
        assert set(row.tolist()) <= {0, 90, 255}


def test_the_large_neighbour_is_kept_only_while_half_of_it_is_inside(tmp_path: Path) -> None:
    dataset = loader(draw(tmp_path), 1.0)
    for seed in range(30):
        random.seed(seed)
        # It covers 96 x 128 pixels; a window of 96 x 64 holds at most half of that, where its left end is at 0.
        assert dataset.get_image_and_label(0)["cls"][:, 0].tolist() == [0]


def test_only_the_share_and_only_pictures_with_small_objects(tmp_path: Path) -> None:
    plain = loader(draw(tmp_path / "one"), 0.0)
    state = random.getstate()
    whole = plain.get_image_and_label(0)["img"]
    assert random.getstate() == state, "off, it draws nothing: a run is what it was before"
    some = loader(tmp_path / "one", 0.3)
    random.seed(0)
    changed = sum(not np.array_equal(some.get_image_and_label(0)["img"], whole) for _ in range(400))
    assert changed / 400 == pytest.approx(0.3, abs=0.07)
    large = loader(draw(tmp_path / "two", with_small=False), 1.0)
    assert large.get_image_and_label(0)["cls"][:, 0].tolist() == [1]
    some.small_object_crops = 1.0
    absorbed = loader(tmp_path / "one", 0.0)
    some.absorb(absorbed, {0: 0, 1: 1})
    assert np.array_equal(some.get_image_and_label(1)["img"], whole), "pictures of replay stay whole"


def test_outlines_follow_their_boxes(tmp_path: Path) -> None:
    root = draw(tmp_path)
    corners = [(120, 40), (144, 40), (144, 56), (120, 56)]
    outline = " ".join(f"{x / 192} {y / 128}" for x, y in corners)
    (root / "labels" / "train" / "a.txt").write_text(f"0 {outline}\n")
    dataset = loader(root, 1.0)
    random.seed(1)
    instances = dataset.get_image_and_label(0)["instances"]
    (box,), (points,) = instances.bboxes, instances.segments
    ends = [*points.min(axis=0), *points.max(axis=0)]
    assert ends == pytest.approx([box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2])
