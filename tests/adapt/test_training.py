from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.run_folder import RunFolder, load_run_config
from drivetl.adapt.trainer import AdaptTrainer
from drivetl.adapt.training import TrainResult, check_run, train
from drivetl.adapt.usable import settle_selection
from drivetl.data import open_dataset
from drivetl.errors import ConfigError, DatasetError, OutputError, WeightsError
from drivetl.verbs._stages import check_train_settings
from drivetl.verbs._train_figures import figure_notes
from drivetl.yolo import load_checkpoint
from drivetl.yolo.ultra import DetectionTrainer

from .conftest import draw_dataset

Configure = Callable[..., TrainConfig]


def interrupt_at(batches: int) -> Callable[[str, int, int | None], None]:
    def progress(label: str, done: int, total: int | None) -> None:
        if done == batches:
            raise KeyboardInterrupt

    return progress


def state_of(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunFolder(run).log.read_text().splitlines()]


RUN_FILES = ("config.yaml", "data.yaml", "result.json", "training_log.jsonl", "weights")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, drawn: Path, random_weights: Path) -> tuple[TrainResult, Path]:
    """One run, from beginning to end."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    config = TrainConfig(
        data=drawn, weights=str(random_weights), epochs=3, imgsz=64, batch=2, threads=1, min_optimiser_steps=6
    )
    return train(config, run), run


def test_a_run_leaves_weights_that_ultralytics_and_drivetl_load(done: tuple[TrainResult, Path]) -> None:
    from ultralytics import YOLO

    result, run = done
    assert result.weights == run / "weights" / "adapted.pt"
    loaded = load_checkpoint(result.weights, for_training=True)
    assert loaded.names == ("car", "pedestrian", "dragon")
    assert loaded.imgsz == 64
    assert YOLO(str(result.weights)).names == {0: "car", 1: "pedestrian", 2: "dragon"}
    assert [row.kind for row in result.head_transfer] == ["same", "synonym", "none"]
    assert (result.epochs, result.optimiser_steps, result.accumulation, result.threads) == (3, 6, 1, 1)
    json.dumps(result.document())


def test_a_run_records_what_it_was_made_from(done: tuple[TrainResult, Path], drawn: Path) -> None:
    _, run = done
    assert {path.name for path in run.iterdir()} == set(RUN_FILES)
    recorded = yaml.safe_load((run / "config.yaml").read_text())
    assert recorded["train"]["seed"] == 0 and len(recorded["dataset_fingerprint"]) == 64
    assert recorded["splits"] == {"train": 4, "val": 2}
    assert load_run_config(run).data == drawn
    assert [line["epoch"] for line in log_of(run)] == [1, 2, 3]
    assert [line["optimiser_steps"] for line in log_of(run)] == [2, 4, 6]
    assert not list(drawn.rglob("*.cache"))


def test_the_learning_rate_is_obeyed(done: tuple[TrainResult, Path], configure: Configure, tmp_path: Path) -> None:
    train(configure(epochs=1, lr0=3e-5, warmup_epochs=0), tmp_path / "run")
    (line,) = log_of(tmp_path / "run")
    assert line["lr/pg0"] == line["lr/pg2"] == pytest.approx(3e-5)


def test_a_resumed_run_ends_in_the_same_weights(
    done: tuple[TrainResult, Path], configure: Configure, tmp_path: Path
) -> None:
    whole, _ = done
    run = tmp_path / "run"
    # Two batches an epoch: the first stop falls into the second epoch, the other into the last.
    with pytest.raises(KeyboardInterrupt):
        train(configure(), run, progress=interrupt_at(3))
    assert not RunFolder(run).adapted.exists()
    with RunFolder(run).log.open("a") as log:
        log.write('{"epoch": 2, "sec')  # killed while it wrote
    with pytest.raises(KeyboardInterrupt):
        train(configure(), run, resume=True, progress=interrupt_at(5))
    result = train(configure(), run, resume=True)
    assert result.optimiser_steps == whole.optimiser_steps
    assert [line["epoch"] for line in log_of(run)] == [1, 2, 3]
    for path in ("adapted.pt", "last.pt"):
        expected, got = state_of(whole.weights.with_name(path)), state_of(run / "weights" / path)
        assert all(torch.equal(expected[name], got[name]) for name in expected)
    said: list[str] = []
    again = train(configure(), run, resume=True, say=said.append)
    assert again.document() == result.document() and said == ["The run is finished; this is what it gave."]
    RunFolder(run).result.write_text("{")
    with pytest.raises(OutputError, match=r"result\.json' is damaged; train again with --overwrite"):
        train(configure(), run, resume=True)
    (run / "result.json").unlink()
    with pytest.raises(OutputError, match="is finished"):
        train(configure(), run, resume=True)


def test_a_run_killed_between_its_weights_and_its_result_is_finished_by_resuming(
    done: tuple[TrainResult, Path], configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drivetl.adapt import training

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    write = training.write_json
    monkeypatch.setattr(training, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        train(configure(), tmp_path / "run")
    assert (tmp_path / "run" / "weights" / "adapted.pt").is_file()
    monkeypatch.setattr(training, "write_json", write)
    result = train(configure(), tmp_path / "run", resume=True)
    assert {path.name for path in (tmp_path / "run").iterdir()} == set(RUN_FILES)
    expected, got = state_of(done[0].weights), state_of(result.weights)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize("patience", [0, 1])
def test_a_run_stopped_after_its_last_epoch_is_not_trained_further(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    from drivetl.adapt import fitting

    # Random weights find nothing, so with patience 1 the second epoch, without gain, is the last.
    config = configure(patience=patience)
    whole = train(config, tmp_path / "whole")
    write = fitting._write_weights

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "_write_weights", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run")
    monkeypatch.setattr(fitting, "_write_weights", write)
    result = train(config, tmp_path / "run", resume=True)
    assert (result.epochs, result.optimiser_steps) == (whole.epochs, whole.optimiser_steps)
    assert log_of(tmp_path / "run")[-1]["epoch"] == whole.epochs
    for path in ("adapted.pt", "last.pt"):
        expected, got = (state_of(folder / "weights" / path) for folder in (tmp_path / "whole", tmp_path / "run"))
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_patience_counts_from_where_it_did_after_resuming(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every epoch is as good as the first: the weights of the newest are kept, and patience counts from the first.
    monkeypatch.setattr(AdaptTrainer, "validate", lambda self: ({}, 0.5))
    monkeypatch.setattr(
        AdaptTrainer, "best_fitness", property(lambda self: 0.5, lambda self, value: None), raising=False
    )
    config = configure(epochs=6, patience=3)
    whole = train(config, tmp_path / "whole")
    assert whole.epochs == 4
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", progress=interrupt_at(7))
    resumed = train(config, tmp_path / "run", resume=True)
    assert (resumed.epochs, resumed.chosen_epoch) == (whole.epochs, whole.chosen_epoch)


@pytest.mark.parametrize("replayed", [False, True])
def test_a_batch_that_a_full_gpu_lowered_is_stepped_after_like_any_other(
    replayed: bool, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    stepped: list[int] = []
    preprocess, step = AdaptTrainer.preprocess_batch, DetectionTrainer.optimizer_step

    def full_at_first(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        seen.append(len(batch["img"]))
        if len(seen) == 1:
            raise RuntimeError("CUDA out of memory (simulated)")
        return preprocess(self, batch)

    def count(self: Any) -> None:
        stepped.append(1)
        step(self)

    monkeypatch.setattr(AdaptTrainer, "preprocess_batch", full_at_first)
    monkeypatch.setattr(DetectionTrainer, "optimizer_step", count)
    source = {"replay": draw_dataset(tmp_path / "source", train=4)} if replayed else {}
    config = configure(epochs=2, batch=4, selection_split=None, min_optimiser_steps=100, mosaic=0.0, **source)
    result = train(config, tmp_path / "run")
    assert seen[0] == 4 and max(seen[1:]) == 2
    batches = 2 * (4 if replayed else 2)
    assert len(seen) == 1 + batches and len(stepped) == batches == result.optimiser_steps


def test_a_list_of_pictures_is_read_from_where_it_lies(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = draw_dataset(tmp_path / "mine", train=4, val=2)
    for split in ("train", "val"):
        names = sorted(path.name for path in (root / "images" / split).iterdir())
        (root / f"{split}.txt").write_text("".join(f"images/{split}/{name}\n" for name in names))
    (root / "data.yaml").write_text("path: .\ntrain: train.txt\nval: val.txt\nnames: [car, pedestrian, dragon]\n")
    # Where the program is started lie pictures under the very same paths, which are another dataset's.
    monkeypatch.chdir(draw_dataset(tmp_path / "theirs", train=3))
    used: set[str] = set()
    preprocess = AdaptTrainer.preprocess_batch

    def look(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        used.update(batch["im_file"])
        return preprocess(self, batch)

    monkeypatch.setattr(AdaptTrainer, "preprocess_batch", look)
    config = TrainConfig(
        data=root,
        weights=str(random_weights),
        epochs=1,
        imgsz=64,
        batch=2,
        threads=1,
        min_optimiser_steps=2,
        replay=root,
    )
    train(config, tmp_path / "run")
    assert used == {str(path) for path in (root / "images" / "train").iterdir()}


def test_a_disk_that_is_full_is_one_sentence(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 640 vs 534")

    monkeypatch.setattr("drivetl.yolo.saving.torch.save", refused)
    with pytest.raises(OutputError, match=r"cannot write .*state.*free space"):
        train(configure(), tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr("drivetl.adapt.head_phase.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=r"has 0\.0 GB left.*head_epochs 0"):
        train(configure(head_epochs=1), tmp_path / "other")


def test_freezing_all_layers_is_refused(configure: Configure, tmp_path: Path, random_weights: Path) -> None:
    assert len(load_checkpoint(random_weights).model.model) == 24, "one more than the setting allows"
    monkey = TrainConfig.model_construct(**{**configure().model_dump(), "freeze": 24})
    with pytest.raises(ConfigError, match="has 24 layers, the head among them, so nothing would learn; freeze 23 at"):
        train(monkey, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_what_it_began_with(configure: Configure, tmp_path: Path, drawn: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(configure(), run, progress=interrupt_at(3))
    with pytest.raises(ConfigError, match=r"train\.epochs = '3', now it is '4'"):
        train(configure(epochs=4), run, resume=True)
    changed = shutil.copytree(drawn, tmp_path / "changed")
    (changed / "labels" / "train" / "0.txt").write_text("1 0.5 0.5 0.4 0.4\n")
    with pytest.raises(ConfigError, match=r"train\.data|dataset_fingerprint"):
        train(configure(data=changed), run, resume=True)
    with pytest.raises(OutputError, match="--resume continues it, --overwrite starts again"):
        train(configure(), run)
    RunFolder(run).state.write_bytes(b"broken")
    with pytest.raises(WeightsError, match="is not the state of a run"):
        train(configure(), run, resume=True)


def test_a_state_with_code_in_it_is_refused(configure: Configure, tmp_path: Path) -> None:
    run, witness = tmp_path / "run", tmp_path / "was-here"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    with pytest.raises(KeyboardInterrupt):
        train(configure(), run, progress=interrupt_at(3))
    torch.save({"format": 2, "model": Hostile()}, RunFolder(run).state)
    with pytest.raises(WeightsError, match="is not the state of a run"):
        train(configure(), run, resume=True)
    assert not witness.exists()


def test_overwrite_starts_again(configure: Configure, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(configure(), run, progress=interrupt_at(3))
    train(configure(epochs=1), run, overwrite=True)
    assert [line["epoch"] for line in log_of(run)] == [1]
    with pytest.raises(OutputError, match="holds a run; pass --overwrite"):
        train(configure(epochs=1), run)


@pytest.mark.parametrize(
    ("weather", "said"),
    [
        (None, r"weather\.probability = '0\.5', now it is not set"),
        ({"conditions": {"fog": 3}}, r"train\.weather\.conditions\.rain = '1\.0', now it is not set"),
        ({"conditions": {"fog": 3, "rain": 1, "snow": 1}}, r"conditions\.snow = not set, now it is '1\.0'"),
    ],
)
def test_a_setting_that_is_gone_is_noticed_by_resuming(
    weather: dict[str, Any] | None, said: str, configure: Configure, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")

    def begin(weather: dict[str, Any] | None, resume: bool) -> None:
        identity = {"git_commit": str(resume), "train": configure(weather=weather).model_dump(mode="json")}
        with folder.open(identity, resume=resume, overwrite=False):
            pass

    begun = {"conditions": {"fog": 3, "rain": 1}}
    begin(begun, resume=False)
    begin(begun, resume=True)
    kept = folder.config.read_bytes()
    with pytest.raises(ConfigError, match=said):
        begin(weather, resume=True)
    assert folder.config.read_bytes() == kept


def test_two_processes_do_not_train_in_one_folder(configure: Configure, tmp_path: Path) -> None:
    run, inside = tmp_path / "run", []

    def another(label: str, done: int, total: int | None) -> None:
        # The lock belongs to whoever opened the folder, not to the process, so the second may be in this one.
        for how in ({"overwrite": True}, {"resume": True}, {}):
            for begin in (train, check_run):
                with pytest.raises(OutputError, match=r"another process is at work in .*run'; wait for it, end it"):
                    begin(configure(), run, **how)
        inside.append(sorted(path.name for path in run.iterdir()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(configure(), run, progress=another)
    assert inside and "config.yaml" in inside[0]
    with pytest.raises(KeyboardInterrupt):
        train(configure(), run, resume=True, progress=interrupt_at(1))


def test_nothing_is_resumed_where_nothing_began(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to resume"):
        train(configure(), tmp_path / "run", resume=True)


def test_a_folder_of_the_user_is_left_alone(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="holds no run of drivetl"):
        train(configure(), tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_patience_without_anything_to_count_by_is_refused_or_said(
    configure: Configure, tmp_path: Path, drawn: Path
) -> None:
    idle = configure(patience=3, selection_split=None)
    for begin in (train, check_run):
        with pytest.raises(
            ConfigError, match=r"patience is 3, but selection_split is null, .*; name a selection_split"
        ):
            begin(idle, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"recipe\.yaml, section train: patience is 3, but selection_split is null"):
        check_train_settings({"patience": 3, "selection_split": None}, "recipe.yaml, section train")
    # What the dataset does not give is no mistake of the settings, and is resumed with what came of it.
    bare = draw_dataset(tmp_path / "bare", train=2)
    cases = [(configure(patience=3, data=bare), bare), (configure(patience=3, wise_ft="select"), drawn)]
    for config, place in cases:
        dataset = open_dataset(place)
        chosen, (note,) = settle_selection(config, dataset, resume=False)
        assert note.endswith("So patience (3) has nothing to count by and stops nothing.")
        assert settle_selection(chosen, dataset, resume=True) == (chosen, [])
        assert "patience" not in settle_selection(config.model_copy(update={"patience": 0}), dataset, False)[1][0]


def test_what_is_said_to_choose_is_what_chooses(configure: Configure, drawn: Path, tmp_path: Path) -> None:
    """The notes on the figures ask the settings, and training acts on them."""
    bare = draw_dataset(tmp_path / "bare", train=2)
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({}, "val"),
        ({"selection_split": None}, None),
        ({"data": bare}, None),
        ({"wise_ft": "select"}, None),
        ({"wise_ft": "select", "min_selection_pictures": 2}, "val"),
    ]
    for changes, expected in cases:
        config = configure(**changes)
        dataset = open_dataset(config.data)
        chosen, _ = settle_selection(config, dataset, resume=False)
        assert chosen.selection_split == config.selecting_split(dataset.splits) == expected
        notes = figure_notes(expected or "train", config, dataset)
        assert ("also chose the epoch" in notes[0]) == (expected is not None)


def test_nothing_is_chosen_by_what_is_trained_on(configure: Configure, drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="selection_split is 'train', whose pictures are trained on"):
        train(configure(selection_split="train"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_selection_split_the_last_epoch_is_taken_and_said(
    configure: Configure, tmp_path: Path, drawn: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn, data)
    (data / "data.yaml").write_text(
        "path: .\ntrain: images/train\nnames: [car, pedestrian, dragon]\ndownload: 'raise SystemExit(1)'\n"
    )
    result = train(configure(data=data, epochs=2, min_optimiser_steps=100), tmp_path / "run")
    assert result.chosen_epoch == 2
    notes = " ".join(result.notes)
    assert "no split 'val'" in notes
    assert "Only 4 optimiser steps of the 100 wanted" in notes and "50 epochs" in notes
    assert "'download'" in notes and "download" not in (tmp_path / "run" / "data.yaml").read_text()
    with pytest.raises(ConfigError, match="selection split 'test' is not in"):
        train(configure(data=data, selection_split="test"), tmp_path / "other")


def test_frozen_layers_stay_as_they_were(configure: Configure, tmp_path: Path, random_weights: Path) -> None:
    result = train(configure(epochs=1, freeze=22, selection_split=None), tmp_path / "run")
    before, after = state_of(random_weights), state_of(result.weights)
    same = {name: torch.equal(before[name], after[name]) for name in before if before[name].shape == after[name].shape}
    assert all(equal for name, equal in same.items() if int(name.split(".")[1]) < 22)
    assert not all(same.values())


def test_a_diverged_run_ends_with_an_error_and_keeps_the_last_good_state(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = AdaptTrainer.optimizer_step

    def spoiled(self: AdaptTrainer) -> None:
        step(self)
        if self.epoch == 1:
            next(self.model.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(AdaptTrainer, "optimizer_step", spoiled)
    with pytest.raises(ConfigError, match=r"diverged in epoch 2.*0\.0002.*after epoch 1 is kept.*--lr0"):
        train(configure(), tmp_path / "run")
    assert RunFolder(tmp_path / "run").state.is_file()
    assert not RunFolder(tmp_path / "run").adapted.exists()


def test_bad_input_is_an_error_before_anything_is_written(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'nothere'"):
        train(configure(weights="nothere"), tmp_path / "run")
    with pytest.raises(DatasetError):
        train(configure(data=tmp_path / "nodata"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
