"""Weather and Albumentations in the loader: each picture on its own, before mosaic, with its boxes in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.pictures import picture_change
from drivetl.adapt.training import train
from drivetl.errors import ConfigError
from drivetl.yolo.dataset import ReadOnlyDataset
from drivetl.yolo.ultra import DEFAULT_CFG_DICT

Configure = Callable[..., TrainConfig]
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
BOXES = np.array([[24, 16, 72, 48]], np.float32)


def loader(drawn: Path, mosaic: float = 0.0) -> ReadOnlyDataset:
    from types import SimpleNamespace

    hyp = SimpleNamespace(**{**DEFAULT_CFG_DICT, "mosaic": mosaic, "augmentations": []})
    data = {"names": {0: "car", 1: "pedestrian", 2: "dragon"}, "channels": 3}
    return ReadOnlyDataset(
        img_path=str(drawn / "images" / "train"), imgsz=64, augment=True, hyp=hyp, data=data, task="detect"
    )


def saved(tmp_path: Path, pipeline: Any) -> Path:
    import albumentations as A

    A.save(pipeline, tmp_path / "pipeline.json")
    return tmp_path / "pipeline.json"


def test_the_change_sees_the_loaded_picture_and_its_boxes_in_pixels(drawn: Path) -> None:
    dataset, seen = loader(drawn), []

    def change(image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append((image.shape, boxes.tolist()))
        return np.full_like(image, 7)

    before = dataset.get_image_and_label(0)
    dataset.change = change
    after = dataset.get_image_and_label(0)
    # 96x64 pixels are loaded as 64x43; the box is the middle half of each side.
    assert seen == [((43, 64, 3), [[16.0, 10.75, 48.0, 32.25]])]
    assert (after["img"] == 7).all() and (before["img"] != 7).any()
    assert np.array_equal(before["instances"].bboxes, after["instances"].bboxes)
    dataset.change = None
    assert np.array_equal(dataset.get_image_and_label(0)["img"], before["img"]), "the loader's own buffer was changed"


def test_every_picture_of_a_mosaic_is_changed_on_its_own(drawn: Path) -> None:
    dataset = loader(drawn, mosaic=1.0)
    sizes: list[tuple[int, ...]] = []

    def change(image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sizes.append(image.shape)
        return image

    dataset.change = change
    dataset[0]
    assert sizes == [(43, 64, 3)] * 4


def test_training_under_weather_gives_other_weights_and_the_same_twice(configure: Configure, tmp_path: Path) -> None:
    weather = {"probability": 1.0, "conditions": {"fog": 1.0}, "severities": (5,)}
    import torch

    from drivetl.yolo import load_checkpoint

    states = []
    for name, settings in (("plain", {}), ("fog", {"weather": weather}), ("again", {"weather": weather})):
        result = train(configure(epochs=1, **settings), tmp_path / name)
        states.append(load_checkpoint(result.weights).model.state_dict())
    plain, fog, again = states
    assert any(not torch.equal(plain[key], fog[key]) for key in plain)
    assert all(torch.equal(fog[key], again[key]) for key in fog)


def test_an_albumentations_file_is_applied_in_rgb_and_obeys_the_generator(configure: Configure, tmp_path: Path) -> None:
    import albumentations as A

    change = picture_change(configure(albumentations=saved(tmp_path, A.ToSepia(p=1.0))))
    assert change is not None
    blue, green, red = change(np.full((8, 8, 3), 100, np.uint8), BOXES, np.random.default_rng(0))[0, 0].tolist()
    assert blue < 100 < green < red
    noise = picture_change(configure(albumentations=saved(tmp_path, A.GaussNoise(p=1.0))))
    assert noise is not None
    first, second, third = (noise(IMAGE, BOXES, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, third)


def test_drivetls_own_classes_work_in_a_file(configure: Configure, tmp_path: Path) -> None:
    from drivetl.weather import Fog

    change = picture_change(configure(albumentations=saved(tmp_path, Fog(severity_range=(5, 5), p=1.0))))
    assert change is not None
    assert change(IMAGE, BOXES, np.random.default_rng(0)).std() < IMAGE.std()


def test_a_file_that_cannot_be_used_is_an_error(configure: Configure, tmp_path: Path) -> None:
    import albumentations as A

    moving = saved(tmp_path, A.OneOf([A.RandomFog(), A.Sequential([A.HorizontalFlip()])]))
    with pytest.raises(ConfigError, match="HorizontalFlip moves pixels"):
        picture_change(configure(albumentations=moving))
    with pytest.raises(ConfigError, match="cannot read the pipeline"):
        picture_change(configure(albumentations=tmp_path / "nothere.json"))
    for text in ("{", "[]", '{"transform": {"__class_fullname__": "os.system", "p": 1.0}}', '{"a": 1}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ConfigError, match="is not a pipeline"):
            picture_change(configure(albumentations=tmp_path / "bad.json"))
    with pytest.raises(ValueError, match="not both"):
        configure(albumentations=moving, weather={})


def test_no_weather_means_no_change(configure: Configure) -> None:
    assert picture_change(configure()) is None
    assert picture_change(configure(weather={"probability": 0.0})) is None


def test_crops_around_small_objects_are_a_setting(configure: Configure, tmp_path: Path) -> None:
    plain = train(configure(epochs=1, fliplr=0.0, scale=0.0, mosaic=0.0), tmp_path / "plain")
    # The drawn box, 32 x 22 pixels of 64 x 43, is small.
    crops = train(
        configure(epochs=1, fliplr=0.0, scale=0.0, mosaic=0.0, small_object_crops=1.0, distill=0.1, weather={}),
        tmp_path / "crops",
    )
    assert plain.optimiser_steps == crops.optimiser_steps
    with pytest.raises(ValueError, match="'small_object_crops' must be 0"):
        configure(labels="teacher", selection_split=None, small_object_crops=0.5)
