from __future__ import annotations

from itertools import combinations
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.runtime import Detections
from drivetl.taxonomy import DRIVING_CLASSES
from drivetl.video.draw import annotate, class_colour_bgr, fit_into, text_colour_bgr

NAMES = ("car", "person")


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def luminance(colour_bgr: tuple[int, int, int]) -> float:
    """WCAG 2.2, relative luminance, with its own threshold of 0.04045."""
    blue, green, red = (
        c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour_bgr
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def lab(colour_rgb: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(colour_rgb.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)).reshape(3)


# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# full severity, applied to linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_kinds_are_told_apart_by_colour_blind_eyes(deficiency: str) -> None:
    kinds = ("person", "bicycle", "car", "truck", "bus", "traffic light", "traffic sign")
    seen = {}
    for kind in kinds:
        rgb = np.array(class_colour_bgr(kind)[::-1]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        shifted = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
        seen[kind] = lab(np.where(shifted <= 0.0031308, 12.92 * shifted, 1.055 * shifted ** (1 / 2.4) - 0.055))
    distances = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(kinds, 2)}
    closest = min(distances, key=distances.__getitem__)
    assert distances[closest] > 10, (closest, distances[closest])  # 2.3 is a just noticeable difference


def test_labels_can_be_read_on_every_colour() -> None:
    for name in (*DRIVING_CLASSES, *(f"class {index}" for index in range(50))):
        colour = class_colour_bgr(name)
        light, dark = sorted((luminance(colour), luminance(text_colour_bgr(colour))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name  # WCAG AA
    for level in range(256):  # and the choice is the better of the two
        luminance_here = luminance((level, level, level))
        wanted = (0, 0, 0) if (luminance_here + 0.05) / 0.05 > 1.05 / (luminance_here + 0.05) else (255, 255, 255)
        assert text_colour_bgr((level, level, level)) == wanted


def test_a_class_keeps_its_colour_under_its_other_names() -> None:
    assert class_colour_bgr("Pedestrian") == class_colour_bgr("person") != class_colour_bgr("car")
    assert class_colour_bgr("zebra") == class_colour_bgr("zebra")


def test_box_lies_on_its_coordinates() -> None:
    frame = np.full((480, 640, 3), 90, np.uint8)
    annotate(frame, detections((200, 150, 400, 350, 0.87, 0)), NAMES)
    colour = class_colour_bgr("car")
    for x, y in ((200, 250), (400, 250), (300, 150), (300, 350)):
        # Antialiasing may take a little of the colour from a line one pixel wide.
        assert np.abs(frame[y, x].astype(int) - colour).max() < 30
    for x, y in ((190, 250), (410, 250), (300, 250), (300, 360)):
        assert tuple(frame[y, x]) == (90, 90, 90)


@pytest.mark.parametrize("height", [120, 480, 1080, 2160])
def test_letters_grow_with_the_frame(height: int) -> None:
    frame = np.zeros((height, height * 16 // 9, 3), np.uint8)
    box = (height * 0.4, height * 0.4, height * 0.8, height * 0.8)
    annotate(frame, detections((*box, 0.5, 0)), NAMES)
    left, top = round(box[0]), round(box[1])
    plate = (frame[:top, left + 1 : left + 4] == class_colour_bgr("car")).all(axis=(1, 2)).sum()
    assert 0.015 * height <= plate and plate >= 12  # rows of the label above its box
    assert plate <= max(0.08 * height, 24)


def test_labels_hide_no_other_box_and_not_the_line_of_figures() -> None:
    frame = np.full((360, 640, 3), 128, np.uint8)
    neighbours = detections((100, 150, 140, 180, 0.9, 0), (105, 112, 170, 149, 0.8, 1))
    annotate(frame, neighbours, NAMES)
    # Above the car stands the person: the car's label goes elsewhere, and the inside of the person's box stays free.
    assert (frame[118:143, 111:164] == 128).all()
    assert (frame == class_colour_bgr("car")).all(axis=2).sum() > 300  # the label is there
    at_the_top = np.full((360, 640, 3), 128, np.uint8)
    annotate(at_the_top, detections((200, 0, 260, 60, 0.7, 0)), NAMES, figures=("12.3 ms",), badge="model")
    assert (at_the_top[:8] == class_colour_bgr("car")).all(axis=2).sum() == 0


def test_far_cars_side_by_side_stay_visible_under_their_numbers() -> None:
    """Seven of 20 px at 22 px from each other: whole labels would lie over the neighbours."""
    boxes = [(400 + 22 * place, 290, 420 + 22 * place, 308, 0.9 - 0.1 * place, 0) for place in range(7)]
    frame = np.full((540, 960, 3), 90, np.uint8)
    annotate(frame, detections(*boxes), NAMES, track_id=np.arange(11, 18))
    for left, top, right, bottom, *_ in boxes:
        inside = frame[int(top) + 4 : int(bottom) - 3, int(left) + 4 : int(right) - 3]
        assert (inside == 90).mean() > 0.95, (left, (inside == 90).mean())
    # One alone keeps its class in words.
    alone, short = (np.full((540, 960, 3), 90, np.uint8) for _ in range(2))
    annotate(alone, detections(boxes[0]), NAMES, track_id=np.array([11]))
    annotate(short, detections(boxes[0]), ("", "person"), track_id=np.array([11]))
    assert (alone != 90).any(axis=2).sum() > (short != 90).any(axis=2).sum()


def test_numbers_stand_in_the_labels() -> None:
    box = (50, 60, 250, 190, 0.9, 0)
    frames = []
    for track_id in (None, np.array([-1], np.int64), np.array([12], np.int64)):
        frame = np.full((240, 320, 3), 90, np.uint8)
        annotate(frame, detections(box), NAMES, track_id=track_id)
        frames.append(frame)
    assert (frames[0] == frames[1]).all()
    plates = [int((frame == class_colour_bgr("car")).all(axis=2)[:58].sum()) for frame in frames]
    assert plates[2] > 1.2 * plates[0]  # the label with a number is longer


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (9, 40), (64, 64)])
def test_tiny_frames(size_hw: tuple[int, int]) -> None:
    frame = np.zeros((*size_hw, 3), np.uint8)
    annotate(frame, detections((0, 0, size_hw[1], size_hw[0], 0.5, 0)), NAMES, figures=("1.0 ms", "p99"), badge="m")
    assert frame.any()


def test_nothing_detected_changes_nothing() -> None:
    frame = np.full((64, 64, 3), 9, np.uint8)
    annotate(frame, detections(), NAMES)
    assert (frame == 9).all()


def test_figures_that_do_not_fit_are_left_out_from_the_end() -> None:
    wide, narrow = np.full((200, 800, 3), 255, np.uint8), np.full((200, 90, 3), 255, np.uint8)
    for frame in (wide, narrow):
        annotate(frame, detections(), NAMES, figures=("1.0 ms", "p99 2.0 ms", "30 FPS"), badge="yolo11n fp32 cpu")
    rows = int((narrow[:, 0] < 255).all(axis=1).sum())
    assert rows > 10
    written = np.flatnonzero((narrow[:rows] > 150).any(axis=(0, 2)))
    assert written.min() > 0 and written.max() < 88  # what is shown is shown whole
    assert (wide[:rows, 650:] > 150).any()  # the badge, at the right


FIGURES = ("end-to-end 12.3 ms", "p99 15.0 ms", "58 FPS", "0 dropped")


def written(
    size_wh: tuple[int, int], figures: tuple[str, ...], badge: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], int]:
    """What stands in the strip, and the share of the frame that it hides in percent; each text whole in the frame."""
    texts: list[str] = []
    put, width = cv2.putText, size_wh[0]

    def noting(image: Any, text: str, at: tuple[int, int], font: int, scale: float, *rest: Any) -> None:
        if text:
            texts.append(text)
            assert at[0] >= 0 and at[0] + cv2.getTextSize(text, font, scale, 1)[0][0] <= width
        put(image, text, at, font, scale, *rest)

    frame = np.full((size_wh[1], size_wh[0], 3), 255, np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr("drivetl.video.draw.cv2.putText", noting)
        annotate(frame, detections(), NAMES, figures=figures, badge=badge)
    return texts, round(100 * float((frame[:, 0, 0] < 255).mean()))


@pytest.mark.parametrize("size_wh", [(480, 270), (320, 180), (540, 960), (960, 540), (1920, 1080), (1280, 376)])
@pytest.mark.parametrize("badge", ["b  fp32  cpu", "b192x320-fog  int8  tensorrt", "yolo11n" * 60 + "  fp32  cpu"])
@pytest.mark.parametrize("figures", [FIGURES, ("end-to-end -- ms", "p99 -- ms", "-- FPS", "0 dropped")])
def test_figures_and_badge_stand_on_every_usual_size(
    size_wh: tuple[int, int], badge: str, figures: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, hidden = written(size_wh, figures, badge, monkeypatch)
    assert all(any(figure in text for text in texts) for figure in figures)
    name, *facts = badge.split("  ")
    if len(name) < 20:
        assert badge in texts
    else:
        # What is shortened says so, and keeps precision and provider.
        assert texts[-1].startswith("yolo11n") and texts[-1].endswith("...  " + "  ".join(facts))
    assert hidden <= 25


def test_a_thumbnail_says_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written((64, 48), FIGURES, "b  fp32  cpu", monkeypatch)[0] == ["12.3 ms"]
    assert written((160, 90), FIGURES, "yolo11n  fp32  cpu", monkeypatch)[0][0] == "end-to-end 12.3 ms"
    assert written((64, 20), FIGURES, "b  fp32  cpu", monkeypatch) == ([], 0)  # it would hide the picture
    texts, _ = written((160, 180), (*FIGURES, "more", "and more", "of it" * 5), "yolo11n  fp32  cpu", monkeypatch)
    assert texts[0] == FIGURES[0] and texts[-1] == "yolo11n  fp32  cpu"  # rather than the figures that matter least


def test_fit_into_says_where_the_picture_lies() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[20:40, 60:80] = 255
    fitted, placed = fit_into(picture, (400, 200))
    assert fitted.shape == (200, 400, 3)
    assert placed == (2.0, 100, 0)
    assert fitted[42:78, 222:258].min() > 250
    assert fitted[:, :100].max() == 0 and fitted[:, 300:].max() == 0
