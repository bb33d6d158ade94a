"""bfloat16 on the CPU: a speed-up that must not change what is learnt."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

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


def test_both_precisions_learn_nearly_the_same(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_weights: Path
) -> None:
    monkeypatch.setattr(trainer_module, "cpu_computes_bfloat16", lambda: True)
    half, full = (
        load_checkpoint(train(configure(epochs=1, amp=amp, optimizer="SGD", lr0=1e-3), tmp_path / str(amp)).weights)
        for amp in (True, False)
    )
    start = load_checkpoint(random_weights).model.state_dict()
    for name in ("model.0.conv.weight", "model.16.cv1.conv.weight", "model.23.cv2.0.0.conv.weight"):
        moved, moved_half = (model.model.state_dict()[name] - start[name] for model in (full, half))
        # bfloat16 rounds to 8 bits; the direction of a step must survive that.
        assert torch.nn.functional.cosine_similarity(moved.flatten(), moved_half.flatten(), dim=0) > 0.9, name


def test_frozen_batch_norm_keeps_its_statistics(configure: Configure, tmp_path: Path, random_weights: Path) -> None:
    before = load_checkpoint(random_weights).model.state_dict()
    moved = {}
    for mode in ("batch", "frozen"):
        result = train(configure(epochs=1, batch_norm=mode, selection_split=None), tmp_path / mode)
        after = load_checkpoint(result.weights).model.state_dict()
        moved[mode] = [not torch.equal(before[key], after[key]) for key in before if key.endswith("running_mean")]
    assert all(moved["batch"]) and not any(moved["frozen"])
