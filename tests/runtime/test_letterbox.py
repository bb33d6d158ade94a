"""The letterbox against Ultralytics', bit for bit, and the tensor against plain division."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.errors import ImageError
from drivetl.runtime import Letterbox, to_tensor

INPUTS_HW = [(640, 640), (384, 640), (640, 384), (320, 320), (96, 160)]
PICTURES_HW = [
    (1, 1),
    (2, 3),
    (17, 31),
    (64, 64),
    (375, 1242),
    (376, 1241),
    (333, 500),
    (719, 1281),
    (720, 1280),
    (1081, 1919),
    (640, 640),
    (384, 640),
    (60, 8192),
    (8192, 60),
    (1, 100),
]


def _noise(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(sum(size_hw)).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("input_hw", INPUTS_HW, ids=str)
@pytest.mark.parametrize("picture_hw", PICTURES_HW, ids=str)
def test_it_equals_ultralytics_bit_for_bit(picture_hw: tuple[int, int], input_hw: tuple[int, int]) -> None:
    from drivetl.yolo import reference_letterbox

    picture = _noise(picture_hw)
    np.testing.assert_array_equal(Letterbox(input_hw)(picture)[0], reference_letterbox(picture, input_hw))


@pytest.mark.material
def test_it_equals_ultralytics_on_real_pictures(material: Path) -> None:
    from drivetl.yolo import reference_letterbox

    paths = sorted((material / "data" / "kitti-day" / "image_2").iterdir())[:3]
    paths += sorted((material / "data" / "street-unlabelled").glob("*.jpg"))[:3]
    assert len(paths) == 6
    for path in paths:
        picture = np.asarray(cv2.imread(str(path)), np.uint8)
        for input_hw in INPUTS_HW:
            np.testing.assert_array_equal(Letterbox(input_hw)(picture)[0], reference_letterbox(picture, input_hw))


def test_a_strip_thinner_than_a_pixel_keeps_one_row() -> None:
    letterboxed, geometry = Letterbox((64, 64))(_noise((1, 1000)))
    assert geometry.resized_hw == (1, 64)
    assert (letterboxed != 114).any()


def test_geometry_of_a_kitti_frame_by_hand() -> None:
    # 640/1242 = 0.51530, so 375 rows become 193.2 -> 193; of the 447 rows of padding the odd one lies below.
    geometry = Letterbox((640, 640)).geometry((375, 1242))
    assert geometry.resized_hw == (193, 640)
    assert geometry.top_left_px == (223, 0)


def test_boxes_return_to_where_they_were_and_stay_inside() -> None:
    # 675 rows at one half are 337.5, rounded to 338: the vertical scale is 338/675, not 1/2.
    geometry = Letterbox((640, 640)).geometry((675, 1280))
    assert geometry.resized_hw == (338, 640) and geometry.top_left_px == (151, 0)
    whole_picture_in_input = np.array([[0, 151, 640, 151 + 338]], np.float32)
    np.testing.assert_allclose(geometry.to_image(whole_picture_in_input), [[0, 0, 1280, 675]], rtol=1e-6)
    middle = np.array([[160, 151 + 169, 320, 151 + 253.5]], np.float32)
    np.testing.assert_allclose(geometry.to_image(middle), [[320, 337.5, 640, 506.25]], rtol=1e-6)
    outside = np.array([[-50.0, 0.0, 5000.0, 5000.0]], np.float32)
    np.testing.assert_array_equal(geometry.to_image(outside), [[0, 0, 1280, 675]])


def test_small_pictures_are_enlarged_only_on_request() -> None:
    picture = _noise((20, 30))
    letterboxed, geometry = Letterbox((64, 64), scale_up=False, center=False, pad_value=7)(picture)
    assert geometry.scale == 1.0
    np.testing.assert_array_equal(letterboxed[:20, :30], picture)
    assert (letterboxed[20:] == 7).all() and (letterboxed[:, 30:] == 7).all()


def test_the_tensor_is_rgb_divided_by_255_exactly() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = np.stack((levels, levels.T, 255 - levels), axis=-1)
    expected = picture[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    tensor = to_tensor(picture)
    assert tensor.dtype == np.float32 and tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[1, 2, 3]],
    ],
    ids=["grey", "alpha", "float", "empty", "list"],
)
def test_what_is_no_picture_is_refused(wrong: object) -> None:
    with pytest.raises(ImageError, match="a picture must be"):
        Letterbox((64, 64))(wrong)  # type: ignore[arg-type]


def test_the_picture_is_left_as_it_was() -> None:
    picture = _noise((64, 64))
    before = picture.copy()
    letterboxed, _ = Letterbox((64, 64))(picture)
    letterboxed[:] = 0
    np.testing.assert_array_equal(picture, before)
