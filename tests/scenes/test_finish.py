"""What a camera makes of light, over the whole of what a preset may ask for."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.scenes.finish import CameraFinish, develop

PLAIN = {"noise": 0.0, "blur_px": 0.0, "vignette": 0.0, "saturation": 1.0, "contrast": 1.0, "jpeg_quality": 90}


def developed(light: float | NDArray[np.float32], size_hw: tuple[int, int], **finish: float) -> NDArray[np.uint8]:
    light_bgr = np.zeros((*size_hw, 3), np.float32) + np.float32(light)
    settings = CameraFinish(**{**PLAIN, **finish})  # type: ignore[arg-type]
    return develop(light_bgr, 1.0, settings, np.random.default_rng(0))


def deviation_px(width: int, blur_px: float) -> float:
    """Return the standard deviation of the blur: how far a step of light is smeared."""
    # From black to where the tone curve is still straight: the step is even, and only the blur smears it.
    step = np.where(np.arange(width) < width // 2, 0.0, 0.5).astype(np.float32)[None, :, None]
    row = developed(step, (32, width), blur_px=blur_px)[16, :, 1].astype(float)
    slope = np.diff(row) / (row[-1] - row[0])
    x = np.arange(len(slope))
    return float(np.sqrt((slope * (x - (slope * x).sum()) ** 2).sum()))


@pytest.mark.parametrize(("width", "blur_px"), [(960, 1.19), (960, 1.21), (960, 5), (960, 20), (4096, 0.8), (4096, 5)])
def test_the_blur_is_as_wide_as_the_preset_says(width: int, blur_px: float) -> None:
    assert deviation_px(width, blur_px) == pytest.approx(blur_px * width / 960, rel=0.12)


@pytest.mark.parametrize("vignette", [0.6, 0.65, 1.0])
def test_the_strongest_vignette_ends_in_black_corners_and_no_warning(vignette: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = developed(0.5, (90, 160), vignette=vignette)
    assert picture[45, 80, 1] > 150
    # From the middle to the corner it only gets darker.
    diagonal = picture[np.arange(45), np.arange(45) * 80 // 45, 1].astype(int)
    assert (np.diff(diagonal) >= 0).all()


def test_no_vignette_makes_light_that_is_no_number() -> None:
    light_bgr = np.ones((90, 160, 3), np.float32)
    settings = CameraFinish(**{**PLAIN, "vignette": 1.0})  # type: ignore[arg-type]
    develop(light_bgr, 1.0, settings, np.random.default_rng(0))  # uses the light up: what is in it is the developed one
    assert np.isfinite(light_bgr).all()
