"""bfloat16 on the CPU: a speed-up that must not change what is learnt."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from drivetl.adapt import trainer as trainer_module
from drivetl.adapt.config import TrainConfig
from drivetl.adapt.precision import FullPrecisionLoss, cpu_autocast
from drivetl.adapt.training import train
from drivetl.yolo import load_checkpoint

Configure = Callable[..., TrainConfig]


class Criterion:
    updates = 4

    def __call__(self, predictions: Any, batch: Any) -> Any:
        return predictions["scores"][0] @ predictions["scores"][0].T, predictions["index"]


def test_the_loss_computes_in_float32_inside_autocast() -> None:
    scores = torch.rand(4, 4, dtype=torch.bfloat16)
    loss = FullPrecisionLoss(Criterion())
    with cpu_autocast(True):
        product, index = loss({"scores": [scores], "index": torch.tensor([3])}, None)
        assert (scores.float() @ scores.float().T).dtype == torch.bfloat16
    assert product.dtype == torch.float32 and index.dtype == torch.int64
    assert torch.equal(product, scores.float() @ scores.float().T)
    assert loss.updates == 4 and deepcopy(loss).updates == 4


@pytest.mark.parametrize("capable", [False, True])
def test_the_run_says_in_what_it_was_trained(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capable: bool
) -> None:
    # oneDNN emulates bfloat16 where the CPU lacks it, so both ways run on every machine.
    monkeypatch.setattr(trainer_module, "cpu_computes_bfloat16", lambda: capable)
    result = train(configure(epochs=1), tmp_path / "run")
    assert result.precision == ("bfloat16" if capable else "float32")
    state = load_checkpoint(result.weights).model.state_dict()
    assert all(value.dtype == torch.float32 for value in state.values() if value.is_floating_point())
    assert all(value.is_contiguous() for value in state.values())


@pytest.mark.material
def test_the_network_says_nearly_the_same_in_both(material: Path) -> None:
    model: Any = load_checkpoint(material / "weights" / "yolo11n.pt", for_training=True).model.train()
    picture = cv2.imread(str(next((material / "data" / "street-unlabelled").glob("*.jpg"))))
    pixels = cv2.cvtColor(cv2.resize(picture, (320, 192)), cv2.COLOR_BGR2RGB)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        full = model(tensor)
        with cpu_autocast(True):
            half = model(tensor)
    assert full["scores"].dtype == torch.float32 and half["scores"].dtype == torch.bfloat16
    for name in ("scores", "boxes"):
        # bfloat16 keeps 8 bits, an error of 0.4 % in each of some hundred layers.
        pair = torch.stack([full[name].flatten(), half[name].float().flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.99, name


def test_frozen_batch_norm_keeps_its_statistics(configure: Configure, tmp_path: Path, random_weights: Path) -> None:
    before = load_checkpoint(random_weights).model.state_dict()
    moved = {}
    for mode in ("batch", "frozen"):
        result = train(configure(epochs=1, batch_norm=mode, selection_split=None), tmp_path / mode)
        after = load_checkpoint(result.weights).model.state_dict()
        moved[mode] = [not torch.equal(before[key], after[key]) for key in before if key.endswith("running_mean")]
    assert all(moved["batch"]) and not any(moved["frozen"])
