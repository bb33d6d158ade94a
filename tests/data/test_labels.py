from __future__ import annotations

import math
from pathlib import Path

import pytest

from drivetl.data.labels import LabelLineError, clipped, label_line, parse_label_line, read_boxes
from drivetl.errors import DatasetError


def test_a_written_line_comes_back_to_a_thousandth_of_a_pixel() -> None:
    box = (10.25, 0.0, 3840.0, 700.7)
    class_id, fractions = parse_label_line(label_line(3, box, (2160, 3840)), 4)
    assert class_id == 3
    back = [fraction * side for fraction, side in zip(fractions, (3840, 2160) * 2, strict=True)]
    assert back == pytest.approx(box, abs=1e-3)


def test_a_box_by_hand() -> None:
    # 200 x 100 picture, box from (20, 30) to (60, 90): centre (40, 60), size 40 x 60.
    assert label_line(0, (20, 30, 60, 90), (100, 200)) == "0 0.20000000 0.60000000 0.20000000 0.60000000"


def test_a_polygon_gives_its_extent() -> None:
    assert parse_label_line("1 0.1 0.2 0.5 0.3 0.3 0.9", 2) == (1, (0.1, 0.2, 0.5, 0.9))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.2", "label_malformed"),
        ("0 0.5 0.5 0.2 0.2 0.9", "label_malformed"),
        ("0 0.5 0.5 0.2 0.2 0.9 0.9 0.1", "label_malformed"),
        ("car 0.5 0.5 0.2 0.2", "label_malformed"),
        ("0 nan 0.5 0.2 0.2", "box_nan"),
        ("0 0.5 0.5 inf 0.2", "box_nan"),
        ("999 0.5 0.5 0.2 0.2", "unknown_class"),
        ("-1 0.5 0.5 0.2 0.2", "unknown_class"),
        ("0.5 0.5 0.5 0.2 0.2", "unknown_class"),
        ("0 1e308 0.5 1e308 0.2", "label_in_pixels"),
        ("0 640 360 120 90", "label_in_pixels"),
        ("0 0.1 0.2 0.5 300 0.3 0.9", "label_in_pixels"),
        ("0 0.1 0.2 0.5 -3e6 0.3 0.9", "box_outside"),
        ("0 0.5 0.5 0 0.2", "box_area"),
        ("0 0.5 0.5 0.2 -0.2", "box_area"),
    ],
)
def test_what_cannot_be_used_is_named(line: str, kind: str) -> None:
    with pytest.raises(LabelLineError) as caught:
        parse_label_line(line, 3)
    assert caught.value.kind == kind


def test_an_error_gives_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0 0.5 0.5 0.2 0.2\n\n0 0.5 0.5 0.2\n")
    with pytest.raises(DatasetError, match=r"a\.txt', line 3: the label has 4 columns"):
        read_boxes(path, ["car"], (100, 100))


def test_pixels_are_told_from_boxes_that_leave_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0 1.2 0.5 1.6 0.2\n0 0.5 0.5 0.2 0.2\n")
    assert len(read_boxes(path, ["car"], (100, 100))) == 2
    path.write_text("0 0.5 0.5 0.2 0.2\n0 640 360 120 90\n")
    with pytest.raises(
        DatasetError, match=r"a\.txt', line 2: the label '0 640 360 120 90' looks like pixels.*; divide"
    ):
        read_boxes(path, ["car"], (100, 100))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\n")
    assert len(read_boxes(path, ["car"], (100, 100))) == 1


def test_clipping_keeps_the_inside() -> None:
    assert clipped((-5, 10, 250, 90), (100, 200)) == (0, 10, 200, 90)
    outside = clipped((210, 10, 250, 90), (100, 200))
    assert math.isclose(outside[0], outside[2])


def test_a_line_with_keypoints_is_a_box() -> None:
    line = "1 0.5 0.4 0.2 0.1 0.55 0.41 2 0.9 0.9 0"  # a keypoint that is not in the box, and one that is not seen
    class_id, box = parse_label_line(line, 2, 6)
    assert class_id == 1 and box == pytest.approx((0.4, 0.35, 0.6, 0.45))
    for wrong in ("1 0.5 0.4 0.2 0.1", f"{line} 0.5 0.5"):
        with pytest.raises(LabelLineError, match="with this kpt_shape a line has 11"):
            parse_label_line(wrong, 2, 6)
