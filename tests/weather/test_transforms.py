"""The Albumentations classes: thin, serialisable, lazily loaded."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

import drivetl.weather as weather
from drivetl.errors import ConfigError
from drivetl.weather import CONDITIONS, apply_weather

from .scene import plane_scene

pytest.importorskip("albumentations")
CLASSES = sorted(weather._TRANSFORMS)


def test_importing_the_kernels_loads_no_albumentations() -> None:
    code = (
        "import sys, drivetl.weather as w; heavy = {'albumentations', 'torch', 'ultralytics'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); assert {'Fog', 'WetLens'} <= set(dir(w));"
        "w.Fog; assert 'albumentations' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_is_one_class_for_each_condition_and_all_names_exist() -> None:
    assert {getattr(weather, name).condition for name in CLASSES} == set(CONDITIONS)
    assert all(hasattr(weather, name) for name in weather.__all__)
    with pytest.raises(AttributeError, match="Hail"):
        _ = weather.Hail


@pytest.mark.parametrize("name", CLASSES)
def test_a_pipeline_survives_serialisation(name: str) -> None:
    import albumentations as A

    image = np.ascontiguousarray(plane_scene(90, 160).image_bgr[..., ::-1])
    boxes = [[10.0, 40.0, 60.0, 80.0]]
    pipeline = A.Compose(
        [A.HorizontalFlip(p=0.0), getattr(weather, name)(severity_range=(2, 4), p=1.0)],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"]),
        seed=7,
    )
    first = None
    for same in (pipeline, A.from_dict(A.to_dict(pipeline)), pickle.loads(pickle.dumps(pipeline))):
        same.set_random_seed(7)
        result = same(image=image, bboxes=boxes, labels=[1])
        first = result["image"] if first is None else first
        assert np.array_equal(result["image"], first)
        assert not np.array_equal(result["image"], image)
        assert np.allclose(result["bboxes"], boxes)


def test_colour_order_is_obeyed() -> None:
    bgr = plane_scene(90, 160).image_bgr
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    night = weather.Night(severity_range=(3, 3), p=1.0)
    expected = apply_weather(bgr, "night", 3, rng=np.random.default_rng(5))
    assert np.array_equal(night.apply(rgb, severity=3, seed=5), expected[..., ::-1])
    in_bgr = weather.Night(severity_range=(3, 3), colour_order="bgr", p=1.0)
    assert np.array_equal(in_bgr.apply(bgr, severity=3, seed=5), expected)


@pytest.mark.parametrize("severity_range", [(4, 2), (0, 3), (1, 6)])
def test_a_bad_range_is_an_error(severity_range: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="severity"):
        weather.Fog(severity_range=severity_range, p=1.0)
