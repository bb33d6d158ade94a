"""The parts that keep a fine-tuned model near its start, each alone on a tiny network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetl.adapt.anchoring import Anchor, decay_by_layer
from drivetl.adapt.config import TrainConfig
from drivetl.adapt.run_folder import RunFolder
from drivetl.adapt.sampling import EpochBatches, repeat_factors
from drivetl.adapt.statistics import estimate_batch_norm
from drivetl.adapt.training import train
from drivetl.errors import ConfigError, DatasetError
from drivetl.yolo import load_checkpoint

from .conftest import draw_dataset

Configure = Callable[..., TrainConfig]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def moved(before: Path, after: Path) -> dict[str, float]:
    """Return how far each parameter went, as a share of its own length; statistics and classifier rows left out."""
    start, end = weights_of(before), weights_of(after)
    return {
        name: float((end[name] - start[name]).norm() / start[name].norm().clamp(min=1e-9))
        for name in end
        if name.endswith((".conv.weight",)) and start[name].shape == end[name].shape
    }


def test_rare_classes_are_repeated_as_in_lvis() -> None:
    classes_of = [frozenset({0})] * 8 + [frozenset({0, 1}), frozenset()]
    factors = repeat_factors(classes_of, 0.4)
    # Class 1 stands in one picture of ten: sqrt(0.4 / 0.1) = 2. Class 0 is common, an empty picture has none.
    assert factors == pytest.approx([1.0] * 8 + [2.0, 1.0])
    assert repeat_factors(classes_of, 0.0) == [1.0] * 10


def test_every_batch_has_its_share_of_replay_and_every_target_comes() -> None:
    batches = EpochBatches(20, 7, batch=4, ratio=1.0, factors=None, generator=torch.Generator().manual_seed(0))
    assert batches.pictures == (20, 20) and len(batches) == 10
    first, second = list(batches), list(batches)
    assert first != second
    for epoch in (first, second):
        assert all(sum(index >= 20 for index in batch) == 2 for batch in epoch)
        assert sorted(i for batch in epoch for i in batch if i < 20) == list(range(20))
        replayed = [i for batch in epoch for i in batch if i >= 20]
        assert {replayed.count(i) for i in range(20, 27)} == {2, 3}


def test_an_epoch_with_repeats_is_as_long_every_time() -> None:
    factors = [1.0, 1.5, 2.25, 1.0]
    batches = EpochBatches(4, 0, batch=3, ratio=1.0, factors=factors, generator=torch.Generator().manual_seed(1))
    seen = torch.zeros(4)
    for _ in range(400):
        epoch = [index for batch in batches for index in batch]
        assert len(epoch) == 6 and set(epoch) == {0, 1, 2, 3}
        seen += torch.bincount(torch.tensor(epoch), minlength=4)
    assert (seen[2] / 400).item() == pytest.approx(2.25, abs=0.15)


def test_layers_near_the_input_learn_more_slowly() -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3)))

    network = Network()
    optimizer = torch.optim.AdamW([{"params": list(network.parameters()), "lr": 0.1, "param_group": "weight"}])
    decay_by_layer(optimizer, network, 0.5)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    assert [rates[id(layer.weight)] for layer in network.model] == pytest.approx([0.025, 0.05, 0.1])
    assert all(group["param_group"] == "weight" for group in optimizer.param_groups)


def test_the_anchor_pulls_by_its_share_and_leaves_new_rows_alone() -> None:
    network = torch.nn.Linear(2, 2)
    anchor = Anchor(network, 0.25, frozenset({"bias"}))
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight += 4.0
        network.bias += 4.0
    bias = network.bias.detach().clone()
    anchor.pull(network, 0.5)
    assert torch.allclose(network.weight, start + 3.5)
    assert torch.equal(network.bias, bias)


def test_estimated_statistics_are_those_of_the_pictures() -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    # The last batch is small, and each is brighter than the one before.
    batches = [
        torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(k)) * 2 + 7 + k for k, n in enumerate((5, 5, 2))
    ]
    network.eval()
    estimate_batch_norm(network, batches)
    values = torch.cat(batches).transpose(0, 1).flatten(1)
    assert torch.allclose(network[0].running_mean, values.mean(1), atol=1e-5)
    assert torch.allclose(network[0].running_var, values.var(1), atol=1e-4)
    assert not network[0].training and network[0].momentum == 0.1


def test_the_head_learns_first_and_alone(configure: Configure, random_weights: Path, tmp_path: Path) -> None:
    # So strong a decay that what moves outside the head in the joint phase is next to nothing.
    result = train(configure(epochs=1, head_epochs=4, lr0=1e-3, layer_decay=1e-6), tmp_path / "run")
    distance = moved(random_weights, result.last_weights)
    head = [value for name, value in distance.items() if name.startswith("model.23.")]
    rest = [value for name, value in distance.items() if not name.startswith("model.23.")]
    assert max(head) > 1e-2 and max(rest) < 1e-5
    assert result.optimiser_steps == 4 * 2 + 2


def test_the_head_can_be_all_that_learns(configure: Configure, random_weights: Path, tmp_path: Path) -> None:
    result = train(configure(epochs=0, head_epochs=4, lr0=1e-3), tmp_path / "run")
    distance = moved(random_weights, result.weights)
    assert max(value for name, value in distance.items() if name.startswith("model.23.")) > 1e-2
    assert not any(value for name, value in distance.items() if not name.startswith("model.23."))
    assert (result.optimiser_steps, result.epochs, result.chosen_epoch) == (8, 0, 0)
    assert RunFolder(tmp_path / "run").log.read_text() == ""
    assert result.usage["peak_memory_mib"]


def test_the_head_alone_speaks_of_no_epoch_and_no_precision_that_it_did_not_have(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivetl.adapt.trainer.cpu_computes_bfloat16", lambda: True)
    data = draw_dataset(tmp_path / "data", train=4)
    weather = {"probability": 0.5, "conditions": {"fog": 1}, "severities": [1]}
    result = train(configure(data=data, epochs=0, head_epochs=1, weather=weather), tmp_path / "run")
    assert result.precision == "float32"
    about = [note for note in result.notes if "epoch" in note or "optimiser steps" in note]
    assert about == ["Without an epoch in which every layer learns, no weather is laid on the pictures."]


def test_the_head_alone_killed_before_its_result_is_not_trained_again(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(epochs=0, head_epochs=2)
    whole = train(config, tmp_path / "whole")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("drivetl.adapt.training._write_checkpoints", stop)
        train(config, tmp_path / "run")
    monkeypatch.setattr("drivetl.adapt.starting.train_head", stop)
    result = train(config, tmp_path / "run", resume=True)
    expected, got = weights_of(whole.weights), weights_of(result.weights)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert result.optimiser_steps == whole.optimiser_steps == 4


def test_batch_norm_can_be_adapted_alone_and_without_a_label(
    configure: Configure, random_weights: Path, tmp_path: Path
) -> None:
    data = draw_dataset(tmp_path / "data", train=4)
    shutil.rmtree(data / "labels")
    config = configure(data=data, epochs=0, batch_norm="adapted", labels="teacher", selection_split=None, mosaic=0.0)
    result = train(config, tmp_path / "run")
    start, end = weights_of(random_weights), weights_of(result.weights)
    assert not torch.allclose(start["model.0.bn.running_mean"], end["model.0.bn.running_mean"], atol=1e-3)
    learned = [name for name in start if name.endswith(("weight", "bias")) and not name.startswith("model.23.")]
    assert learned and all(torch.equal(start[name], end[name]) for name in learned)
    assert result.optimiser_steps == 0


def test_the_pull_keeps_weights_near_the_start(configure: Configure, random_weights: Path, tmp_path: Path) -> None:
    free = train(configure(lr0=1e-3), tmp_path / "free")
    held = train(configure(lr0=1e-3, l2_sp=0.5), tmp_path / "held")
    far, near = (moved(random_weights, result.last_weights) for result in (free, held))
    assert sum(near.values()) < 0.6 * sum(far.values())


@pytest.mark.parametrize("choice", ["adapted", "reestimated"])
def test_batch_norm_takes_the_target_statistics(
    configure: Configure, random_weights: Path, tmp_path: Path, choice: str
) -> None:
    result = train(configure(epochs=1, lr0=1e-6, batch_norm=choice), tmp_path / "run")
    start, end = weights_of(random_weights), weights_of(result.weights)
    name = "model.0.bn.running_mean"
    assert not torch.allclose(start[name], end[name], atol=1e-3)
    frozen = train(configure(epochs=1, lr0=1e-6, batch_norm="frozen"), tmp_path / "frozen")
    assert torch.allclose(start[name], weights_of(frozen.weights)[name])


def test_replay_is_seen_under_the_targets_classes(configure: Configure, tmp_path: Path) -> None:
    source = draw_dataset(tmp_path / "source", train=6)
    (source / "data.yaml").write_text("train: images/train\nnames: [zebra, automobile, person]\n")
    seen: list[Any] = []

    from drivetl.adapt import trainer as module

    class Spy(module.AdaptTrainer):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            if self.model.training:
                seen.append((sorted(Path(f).parents[2].name for f in batch["im_file"]), batch["cls"].view(-1).tolist()))
            return super().preprocess_batch(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivetl.adapt.fitting.AdaptTrainer", Spy)
        train(configure(epochs=1, replay=source, mosaic=0.0, fliplr=0.0, scale=0.0), tmp_path / "run")
    # Two of the source's classes: zebra has no counterpart, automobile is the target's class 0.
    assert len(seen) == 4
    assert all(len(set(sources)) == 2 for sources, _ in seen)
    labels = [label for _, found in seen for label in found]
    assert set(labels) <= {0.0, 1.0}


def test_replay_without_a_common_class_is_an_error(configure: Configure, tmp_path: Path) -> None:
    source = draw_dataset(tmp_path / "source", train=2)
    (source / "data.yaml").write_text("train: images/train\nnames: [zebra, giraffe]\n")
    with pytest.raises(DatasetError, match="shares no class with the target: it has zebra, giraffe"):
        train(configure(replay=source), tmp_path / "run")
    with pytest.raises(DatasetError, match=r"no split 'val'; it has train"):
        train(configure(replay=source, replay_split="val"), tmp_path / "other")


def test_a_smaller_number_of_pictures_is_a_subset(configure: Configure, tmp_path: Path) -> None:
    lists = []
    for count in (2, 3):
        train(configure(epochs=1, pictures=count), tmp_path / str(count))
        lists.append(set(RunFolder(tmp_path / str(count)).pictures.read_text().split()))
    assert len(lists[0]) == 2 and len(lists[1]) == 3 and lists[0] < lists[1]
    with pytest.raises(ConfigError, match="pictures is 5, but the split 'train' has 4"):
        train(configure(pictures=5), tmp_path / "many")


def test_resuming_with_every_part_on_ends_in_the_same_weights(configure: Configure, tmp_path: Path) -> None:
    source = draw_dataset(tmp_path / "source", train=3)
    config = configure(replay=source, l2_sp=0.1, layer_decay=0.8, head_epochs=2, batch_norm="adapted")
    whole = train(config, tmp_path / "whole")

    def stop(label: str, done: int, total: int | None) -> None:
        if label == "training" and done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", progress=stop)
    result = train(config, tmp_path / "run", resume=True)
    expected, got = weights_of(whole.weights), weights_of(result.weights)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    lines = RunFolder(tmp_path / "run").log.read_text().splitlines()
    assert "lr/pg0" in json.loads(lines[0]) and "lr/pg3" not in json.loads(lines[0])
