"""The forest plot: what is better is green, what is worse red, and what cannot be told grey."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.report.forest import Difference, Panel, draw_forest

GREEN, RED, GREY = (77, 127, 27), (47, 57, 179), (118, 107, 95)


def picture(*differences: Difference) -> NDArray[np.uint8]:
    data = draw_forest([Panel("fog", differences), Panel("COCO", differences)], title="arms", unit="points")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None and image.dtype == np.uint8
    return np.asarray(image, np.uint8)


def shown(image: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    return [colour for colour in (GREEN, RED, GREY) if (image == colour).all(axis=2).sum() > 100]


@pytest.mark.parametrize(
    ("difference", "colour"),
    [
        (Difference("a", 4.0, (1.0, 7.0)), GREEN),
        (Difference("a", -4.0, (-7.0, -1.0)), RED),
        (Difference("a", 1.0, (-2.0, 4.0)), GREY),
        (Difference("a", 2.0, None), GREEN),
    ],
)
def test_the_colour_is_the_verdict(difference: Difference, colour: tuple[int, int, int]) -> None:
    assert shown(picture(difference)) == [colour]


def test_a_row_without_a_figure_keeps_its_place() -> None:
    both = picture(Difference("a", 1.0, (0.5, 2.0)), Difference("b", -1.0, (-2.0, -0.5)))
    one = picture(Difference("a", 1.0, (0.5, 2.0)), Difference("b", None, None))
    assert both.shape == one.shape
    assert shown(both) == [GREEN, RED] and shown(one) == [GREEN]
