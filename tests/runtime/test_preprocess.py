"""The Detector's fast path against the reference functions, bit for bit, and what it allocates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from drivetl.errors import ImageError
from drivetl.runtime import Detector, Letterbox, decode, to_tensor
from drivetl.runtime.preprocess import Preprocessor

SIZES_HW = [(720, 1280), (375, 1242), (1, 1), (384, 640), (8192, 60), (719, 1281), (720, 1280), (200, 100)]
LIMIT_BYTES = 64 << 10


def _noise(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "letterbox",
    [
        Letterbox((384, 640)),
        Letterbox((320, 320), pad_value=0, center=False),
        Letterbox((640, 640), scale_up=False),
    ],
    ids=str,
)
def test_it_equals_the_reference_bit_for_bit_from_size_to_size(letterbox: Letterbox) -> None:
    preprocess, pictures = Preprocessor(letterbox), Preprocessor(letterbox, "uint8")
    for size_hw in SIZES_HW:
        image = _noise(size_hw)
        if min(letterbox.size_hw) < min(size_hw) or letterbox.scale_up or max(size_hw) <= 640:
            boxed, geometry = letterbox(image)
            tensor, found = preprocess(image)
            np.testing.assert_array_equal(tensor, to_tensor(boxed))
            assert found == geometry
            assert tensor.flags.c_contiguous
            picture, found = pictures(image)
            np.testing.assert_array_equal(picture, boxed[None])
            assert found == geometry and picture.flags.c_contiguous


def test_a_picture_that_is_a_view_gives_the_same() -> None:
    letterbox = Letterbox((96, 160))
    image = _noise((300, 400))[10:-10:2, 7:-5, ::-1]
    np.testing.assert_array_equal(Preprocessor(letterbox)(image)[0], to_tensor(letterbox(image)[0]))
    np.testing.assert_array_equal(Preprocessor(letterbox, "uint8")(image)[0][0], letterbox(image)[0])


def test_threads_do_not_share_buffers() -> None:
    letterbox = Letterbox((96, 160))
    preprocess = Preprocessor(letterbox)
    images = [_noise((72 + i % 3, 128), seed=i) for i in range(8)]
    expected = [to_tensor(letterbox(image)[0]) for image in images]

    def repeat(index: int) -> bool:
        return all(np.array_equal(preprocess(images[index])[0], expected[index]) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeat, range(len(images))))


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="uint8 array of shape"):
        Preprocessor(Letterbox((64, 64)))(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_no_frame_allocates_more_than_64_kib_after_warm_up(dtype: str, tiny_bundle: Callable[..., Path]) -> None:
    detector = Detector(tiny_bundle())
    detector._preprocess = Preprocessor(Letterbox((384, 640)), dtype)
    image = _noise((720, 1280))
    rng = np.random.default_rng(1)
    raw = rng.uniform(0, 0.2, (1, 84, 5040)).astype(np.float32)
    raw[0, :4] = rng.uniform(10, 300, (4, 5040))
    raw[0, 4 + rng.integers(0, 80, 300), rng.choice(5040, 300, replace=False)] = 0.9
    _, geometry = detector.preprocess(image)
    assert len(detector.postprocess(raw, geometry)) > 100
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(3):
            detector.preprocess(image)
            detector.postprocess(raw, geometry)
        assert tracemalloc.get_traced_memory()[1] - before < LIMIT_BYTES
        # The tally sees NumPy's memory: the reference allocates its tensor.
        tracemalloc.reset_peak()
        to_tensor(detector.contract.letterbox(image)[0])
        Letterbox((384, 640))(image)
        assert tracemalloc.get_traced_memory()[1] - before > LIMIT_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("classes", [1, 3, 80, 9000])
def test_the_best_class_is_the_first_best_of_every_candidate(classes: int) -> None:
    rng = np.random.default_rng(classes)
    raw = np.concatenate((rng.uniform(0, 64, (4, 50)), rng.integers(0, 4, (classes, 50)) / 4)).astype(np.float32)[None]
    found = decode(raw, Letterbox((64, 64)).geometry((64, 64)), confidence=0.1, iou=1.0)
    scores = raw[0, 4:]
    expected = sorted((float(s.max()), int(s.argmax())) for s in scores.T if s.max() > 0.1)
    assert sorted(zip(found.confidence.tolist(), found.class_id.tolist(), strict=True)) == expected
