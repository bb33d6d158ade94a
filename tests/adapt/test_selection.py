"""The mixing weight: which share is chosen, from which figures, and when the start is kept."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.fits import Fits
from drivetl.adapt.run_folder import RunFolder
from drivetl.adapt.selection import ClassFigures, Trial, choose_share, class_mean
from drivetl.adapt.training import train
from drivetl.data import merge_datasets, open_dataset, stratified_folds
from drivetl.data.layout import Origin, write_dataset
from drivetl.errors import BundleError, ConfigError
from drivetl.progress import Progress, silent
from drivetl.yolo import load_checkpoint

from .conftest import draw_dataset

Configure = Callable[..., TrainConfig]


def trial(share: float, car: float, kept: float | None = None, boxes: int = 40) -> Trial:
    return Trial(share, {"car": (car, boxes)}, None if kept is None else {"car": (kept, 30)})


def chosen(*fits: list[Trial], max_forgetting: float = 0.005, price: float = 1.0) -> float:
    (share,) = (point.share for point in choose_share(fits, max_forgetting, price) if point.chosen)
    return share


def test_the_best_share_wins_and_the_smaller_of_equals() -> None:
    assert chosen([trial(0, 0.30), trial(0.5, 0.36), trial(1, 0.33)]) == 0.5
    assert chosen([trial(0, 0.30), trial(0.5, 0.36), trial(1, 0.36)]) == 0.5


def test_a_smaller_share_that_is_worth_nearly_as_much_is_preferred() -> None:
    assert chosen([trial(0, 0.30), trial(0.5, 0.356), trial(1, 0.36)]) == 0.5
    assert chosen([trial(0, 0.30), trial(0.5, 0.354), trial(1, 0.36)]) == 1
    # The start itself is not preferred: a small gain is still one.
    assert chosen([trial(0, 0.30), trial(0.5, 0.302), trial(1, 0.301)]) == 0.5


def test_a_share_that_is_not_better_than_the_start_is_not_taken() -> None:
    assert chosen([trial(0, 0.30), trial(0.5, 0.30), trial(1, 0.29)]) == 0


def test_a_share_that_forgets_more_than_allowed_is_not_taken() -> None:
    fit = [trial(0, 0.30, 0.50), trial(0.5, 0.34, 0.497), trial(1, 0.40, 0.40)]
    assert chosen(fit) == 0.5
    assert chosen(fit, max_forgetting=0.2, price=0.0) == 1
    assert chosen(fit, max_forgetting=0.001) == 0


def test_what_is_forgotten_has_its_price() -> None:
    fit = [trial(0, 0.30, 0.50), trial(0.5, 0.34, 0.49), trial(1, 0.36, 0.46)]
    # Worth 0.03 and 0.02 at a price of one; without a price the higher gain wins; at five nothing is worth it.
    assert [chosen(fit, max_forgetting=0.1, price=price) for price in (1.0, 0.0, 5.0)] == [0.5, 1, 0]


def in_fog(share: float, clear: float, fog: float) -> Trial:
    return Trial(share, {"car": (clear, 40)}, None, {"fog:4": {"car": (fog, 40)}})


def test_gains_in_weather_count_as_much_as_they_are_told_to() -> None:
    fit = [in_fog(0, 0.30, 0.20), in_fog(0.5, 0.36, 0.22), in_fog(1, 0.33, 0.28)]
    picked = {}
    for weather_share in (0.0, 0.5, 1.0):
        curve = choose_share([fit], 0.005, weather_share=weather_share)
        picked[weather_share] = next(point.share for point in curve if point.chosen)
    # Half and half: 0.04 for the one and 0.055 for the other.
    assert picked == {0.0: 0.5, 0.5: 1, 1.0: 1}
    assert [round(point.weather_gain or 0, 3) for point in curve] == [0, 0.02, 0.08]
    assert choose_share([[trial(0, 0.3), trial(1, 0.4)]], 0.005)[1].weather is None


def test_a_share_that_is_better_only_in_fair_weather_can_be_refused() -> None:
    fit = [in_fog(0, 0.30, 0.20), in_fog(1, 0.31, 0.15)]
    assert choose_share([fit], 0.005, weather_share=0.0)[1].chosen
    assert choose_share([fit], 0.005, weather_share=0.5)[0].chosen


def test_several_weathers_count_alike() -> None:
    def both(share: float, fog: float, rain: float) -> Trial:
        return Trial(share, {"car": (0.3, 40)}, None, {"fog:4": {"car": (fog, 40)}, "rain": {"car": (rain, 40)}})

    point = choose_share([[both(0, 0.2, 0.3), both(1, 0.3, 0.26)]], 0.005)[1]
    assert point.weather == pytest.approx(0.28) and point.weather_gain == pytest.approx(0.03)
    assert Trial.of(json.loads(json.dumps(both(1, 0.3, 0.26).document()))) == both(1, 0.3, 0.26)


def test_no_share_above_the_most_is_taken() -> None:
    fit = [trial(0, 0.30), trial(0.5, 0.34), trial(1, 0.40)]
    curve = choose_share([fit], 0.005, most=0.5)
    assert [point.chosen for point in curve] == [False, True, False]


def test_folds_count_by_their_differences_weighed_by_boxes() -> None:
    # The second fold is easier for every share: only the differences to the start may count.
    fits = [[trial(0, 0.20), trial(1, 0.26)], [trial(0, 0.60, boxes=80), trial(1, 0.57, boxes=80)]]
    point = choose_share(fits, 0.005)[1]
    assert point.target_gain == pytest.approx((40 * 0.06 - 80 * 0.03) / 120)
    assert not point.chosen


def test_a_class_of_a_few_boxes_does_not_decide() -> None:
    figures: list[ClassFigures] = [{"car": (0.4, 30), "bicycle": (1.0, 3)}, {"car": (0.2, 10), "bicycle": (0.0, 3)}]
    assert class_mean(figures) == pytest.approx(0.35)
    assert class_mean([{"bicycle": (0.5, 3)}]) == 0.5
    assert class_mean([]) == 0.0


class Bench:
    """A judge whose figures depend on how far the weights are from the start: best at ``peak`` of the way."""

    def __init__(self, start: Path, peak: float, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.start = load_checkpoint(start).model.state_dict()
        self.peak = peak
        self.asked: list[tuple[str, str, frozenset[Path] | None]] = []
        self.seen: list[float] = []

    def __call__(
        self,
        weights: Path,
        data: Path,
        split: str,
        pictures: frozenset[Path] | None,
        weather: tuple[str, int] | None = None,
    ) -> ClassFigures:
        assert weather is None
        self.asked.append((data.name, split, pictures))
        time.sleep(self.pause_s)
        name = "model.0.conv.weight"
        self.seen.append(float((load_checkpoint(weights).model.state_dict()[name] - self.start[name]).norm()))
        # Shares are tried in rising order, so the number of calls tells the share.
        share = (0.0, 0.25, 0.5, 0.75, 1.0)[(len(self.seen) - 1) % 5]
        return {"car": (0.5 - abs(share - self.peak) / 4, 20)}


def test_a_large_split_chooses_alone(configure: Configure, random_weights: Path, tmp_path: Path) -> None:
    bench = Bench(random_weights, 0.5)
    result = train(configure(wise_ft="select", min_selection_pictures=2), tmp_path / "run", judge=bench)
    assert result.share == 0.5 and [point.share for point in result.curve] == [0, 0.25, 0.5, 0.75, 1]
    assert {(split, pictures) for _, split, pictures in bench.asked} == {("val", None)}
    assert bench.seen[0] == 0 and bench.seen == sorted(bench.seen)
    # The way is short beside the weights, whose float32 rounds it.
    assert bench.seen[2] == pytest.approx(bench.seen[4] / 2, rel=1e-4)
    written = json.loads((tmp_path / "run" / "weight_curve.json").read_text())["curve"]
    assert [point["chosen"] for point in written] == [False, False, True, False, False]
    assert not RunFolder(tmp_path / "run").candidate.exists()


def test_a_small_split_leaves_it_to_folds_of_the_training_pictures(
    configure: Configure, random_weights: Path, tmp_path: Path
) -> None:
    bench = Bench(random_weights, 0.75)
    config = configure(wise_ft="select", epochs=1, selection_folds=2)
    result = train(config, tmp_path / "run", judge=bench)
    # So few pictures do not prove more than a half.
    assert result.share == 0.5 and any("4 pictures chose the share" in note for note in result.notes)
    tested = [pictures for _, split, pictures in bench.asked if split == "train" and pictures is not None]
    assert len(bench.asked) == len(tested) == 10
    halves = set(tested)
    assert len(halves) == 2 and len(frozenset.union(*halves)) == 4 and not frozenset.intersection(*halves)
    assert any("cross-validation" in note for note in result.notes)
    assert not (tmp_path / "run" / "folds").exists()


def folds_of(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the fold of each training picture that the share is chosen by."""
    asked: list[Sequence[int]] = []

    def note(self: Fits, number: int, folds: int, fold_of: Sequence[int]) -> list[Trial]:
        asked.append(fold_of)
        return []

    monkeypatch.setattr(Fits, "_fold", note)
    Fits(config, open_dataset(config.data), RunFolder(Path("nowhere")), None, False, silent).cross_validated()
    return list(asked[0])


def test_near_identical_pictures_are_in_one_fold_also_where_nobody_recorded_it(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_dataset(tmp_path / "drives", train=6)
    pictures = data / "images" / "train"
    for number in (0, 1, 2):  # twice the same, and of one class, which is spread over both folds unless that is seen
        shutil.copyfile(pictures / f"{number}.jpg", pictures / f"{5 - number}.jpg")
        (data / "labels" / "train" / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (data / "labels" / "train" / f"{5 - number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    for seed in range(4):
        config = configure(data=data, wise_ft="select", selection_split=None, selection_folds=2, seed=seed)
        found = folds_of(config, monkeypatch)
        assert found == found[::-1] and len(set(found)) == 2
        assert found == folds_of(config, monkeypatch)


def expected_folds(data: Path, config: TrainConfig) -> list[int]:
    """Return the folds by what is recorded alone."""
    samples = list(open_dataset(data).samples("train"))
    counts = [Counter(box.class_name for box in sample.boxes) for sample in samples]
    groups = [sample.group for sample in samples]
    return stratified_folds(groups, counts, config.selection_folds, np.random.default_rng(config.seed))


def test_pictures_that_are_all_different_are_dealt_out_as_they_are(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_dataset(tmp_path / "drawn", train=12)
    config = configure(data=data, wise_ft="select", selection_split=None, seed=7)
    assert folds_of(config, monkeypatch) == expected_folds(data, config)


def test_groups_that_are_recorded_are_taken_as_they_are_unless_another_dataset_records_none(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(name: str, groups: Sequence[str]) -> Path:
        drawn = open_dataset(draw_dataset(tmp_path / f"{name}_drawn", train=len(groups)))
        shutil.copyfile(drawn.root / "images/train/0.jpg", drawn.root / "images/train/1.jpg")
        samples = [replace(s, group=group) for s, group in zip(drawn.samples("train"), groups, strict=True)]
        origin = Origin("yolo", "none", "native", 0)
        return write_dataset(tmp_path / name, samples, drawn.names, origin).root

    looked_through, bare = write("looked_through", ["a", "b", "c", "c"]), write("bare", ["a", "b", "c"])
    merged = merge_datasets([looked_through, bare], tmp_path / "merged").dataset.root
    told: list[int] = []

    def compare(paths: Sequence[Path], groups: Sequence[str], progress: Progress) -> list[str]:
        told.append(len(paths))
        return list(groups)

    monkeypatch.setattr("drivetl.adapt.fits.content_groups", compare)
    for data, compared in ((looked_through, []), (bare, [3]), (merged, [7])):
        told.clear()
        config = configure(data=data, wise_ft="select", selection_split=None, selection_folds=2)
        assert folds_of(config, monkeypatch) == expected_folds(data, config)
        assert told == compared
    # A few of them tell nothing of what the dataset records.
    told.clear()
    folds_of(configure(data=looked_through, pictures=2, wise_ft="select", selection_split=None), monkeypatch)
    assert told == []


def test_a_start_that_nothing_beats_is_kept(configure: Configure, random_weights: Path, tmp_path: Path) -> None:
    config = configure(wise_ft="select", epochs=1, min_selection_pictures=2)
    result = train(config, tmp_path / "run", judge=Bench(random_weights, 0.0))
    assert result.share == 0 and any("the start was kept" in note for note in result.notes)
    name = "model.0.conv.weight"
    kept, alone, start = (
        load_checkpoint(path).model.state_dict()[name]
        for path in (result.weights, result.alone_weights, random_weights)
    )
    assert torch.equal(kept, start) and not torch.equal(alone, start)


def test_retention_is_measured_for_every_share(configure: Configure, random_weights: Path, tmp_path: Path) -> None:
    source = draw_dataset(tmp_path / "source", val=2)
    asked: list[tuple[str, str]] = []

    def judge(
        weights: Path, data: Path, split: str, pictures: frozenset[Path] | None, weather: Any = None
    ) -> ClassFigures:
        asked.append((data.name, split))
        return {"car": (0.5 if data == source else 0.3, 20)}

    config = configure(wise_ft="select", epochs=1, min_selection_pictures=2, retention=source)
    result = train(config, tmp_path / "run", judge=judge)
    assert asked.count(("source", "val")) == 5
    assert [point.retention_gain for point in result.curve] == [0.0] * 5


def test_every_share_is_measured_in_the_weathers_that_are_named(
    configure: Configure, random_weights: Path, tmp_path: Path
) -> None:
    asked: list[tuple[str, Any]] = []

    def judge(
        weights: Path, data: Path, split: str, pictures: frozenset[Path] | None, weather: Any = None
    ) -> ClassFigures:
        asked.append((split, weather))
        return {"car": (0.3 if weather is None else 0.3 + 0.01 * len(asked), 20)}

    config = configure(wise_ft="select", epochs=1, min_selection_pictures=2, selection_weather=("fog:4", "rain"))
    result = train(config, tmp_path / "run", judge=judge)
    assert asked == [("val", None), ("val", ("fog", 4)), ("val", ("rain", 3))] * 5
    assert result.share == 1 and result.curve[0].weather_gain == 0 and result.curve[-1].weather_gain > 0.1
    written = json.loads((tmp_path / "run" / "weight_curve.json").read_text())["curve"]
    assert written[-1]["weather"] == result.curve[-1].weather


def test_no_gain_in_weather_buys_a_loss_on_the_pictures_as_they_are() -> None:
    def fit(now: float) -> list[Trial]:
        start = Trial(0, {"car": (0.40, 40)}, None, {"fog:3": {"car": (0.20, 40)}})
        return [start, Trial(1, {"car": (now, 40)}, None, {"fog:3": {"car": (0.36, 40)}})]

    assert chosen(fit(0.35)) == 0
    assert chosen(fit(0.40)) == 1


class Pair:
    """A judge to whom the start is worth ``before`` and everything else ``after``."""

    def __init__(self, start: Path, before: float, after: float | None) -> None:
        self.start = load_checkpoint(start).model.state_dict()["model.0.conv.weight"]
        self.before, self.after = before, after
        self.asked: list[tuple[str, frozenset[Path] | None]] = []

    def __call__(
        self, weights: Path, data: Path, split: str, pictures: frozenset[Path] | None, weather: Any = None
    ) -> ClassFigures:
        self.asked.append((split, pictures))
        if torch.equal(load_checkpoint(weights).model.state_dict()["model.0.conv.weight"], self.start):
            return {"car": (self.before, 20)}
        if self.after is None:
            raise BundleError("the model's output holds values that are no numbers")
        return {"car": (self.after, 20)}


@pytest.mark.parametrize("after", [0.19, None], ids=["worse", "no numbers"])
def test_a_given_share_that_is_worse_than_the_start_is_not_taken(
    after: float | None, configure: Configure, random_weights: Path, tmp_path: Path
) -> None:
    judge = Pair(random_weights, 0.2, after)
    result = train(configure(wise_ft=0.5, epochs=1, selection_split=None), tmp_path / "run", judge=judge)
    name = "model.0.conv.weight"
    assert result.share == 0 and torch.equal(load_checkpoint(result.weights).model.state_dict()[name], judge.start)
    assert not torch.equal(load_checkpoint(result.alone_weights).model.state_dict()[name], judge.start)
    said = "The start was kept: 50% of the new weights lose" if after else "the training diverged"
    assert any(said in note for note in result.notes)
    # Nothing is held out, so both were measured on pictures that were trained on.
    assert judge.asked[0] == judge.asked[1] and judge.asked[0][0] == "train" and len(judge.asked[0][1] or ()) == 4
    assert not RunFolder(tmp_path / "run").candidate.exists()


def test_a_given_share_is_held_against_the_start_on_a_split_that_is_large_enough(
    configure: Configure, random_weights: Path, tmp_path: Path
) -> None:
    judge = Pair(random_weights, 0.2, 0.2)
    result = train(configure(wise_ft=0.5, epochs=1, min_selection_pictures=2), tmp_path / "run", judge=judge)
    assert result.share == 0.5 and judge.asked == [("val", None)] * 2
    unasked = Pair(random_weights, 0.2, 0.1)
    off = train(configure(wise_ft=0.5, epochs=1, do_no_harm=False), tmp_path / "off", judge=unasked)
    assert off.share == 0.5 and not unasked.asked


def test_a_share_whose_weights_give_no_numbers_is_worth_nothing(
    configure: Configure, random_weights: Path, tmp_path: Path
) -> None:
    judge = Pair(random_weights, 0.2, None)
    result = train(configure(wise_ft="select", epochs=1, selection_folds=2), tmp_path / "run", judge=judge)
    assert result.share == 0 and sum("diverged" in note for note in result.notes) == 1
    assert [point.target for point in result.curve] == [0.2, 0, 0, 0, 0]


def test_labels_in_one_picture_leave_nothing_to_choose_by(
    configure: Configure, random_weights: Path, tmp_path: Path
) -> None:
    data = draw_dataset(tmp_path / "one", train=4, val=2)
    for label in sorted((data / "labels" / "train").iterdir())[1:]:
        label.unlink()
    config = configure(data=data, wise_ft="select", epochs=1, selection_folds=2)
    result = train(config, tmp_path / "run", judge=Bench(random_weights, 0.75))
    assert result.share == 0 and any("none can be left out to choose by" in note for note in result.notes)
    assert not any("No share" in note for note in result.notes)


@pytest.mark.parametrize("text", ["frogs:3", "fog:9", "fog:"])
def test_a_weather_that_is_none_is_refused_before_anything(text: str, configure: Configure) -> None:
    with pytest.raises(ValueError, match=r"no weather condition|severity is 1 to 5"):
        configure(selection_weather=(text,))


def test_a_run_stopped_between_folds_ends_in_the_same_weights(
    configure: Configure, random_weights: Path, tmp_path: Path
) -> None:
    config = configure(wise_ft="select", epochs=1, selection_folds=2)
    began = time.monotonic()
    whole = train(config, tmp_path / "whole", judge=Bench(random_weights, 0.5, pause_s=0.3))
    assert whole.seconds < time.monotonic() - began, "the choice counts once"

    def stop(label: str, done: int, total: int | None) -> None:
        if label.startswith("fold 2") and "training" in label:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", judge=Bench(random_weights, 0.5, pause_s=0.6), progress=stop)
    bench = Bench(random_weights, 0.5)
    result = train(config, tmp_path / "run", judge=bench, resume=True)
    assert len(bench.asked) == 5  # the first fold's figures were kept
    assert result.share == whole.share
    # Ten questions of 0.3 s; and five of 0.6 s, asked before the interruption.
    assert whole.seconds > 3 and result.seconds > 3
    expected, got = (load_checkpoint(r.weights).model.state_dict() for r in (whole, result))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_one_group_of_pictures_keeps_the_start(configure: Configure, random_weights: Path, tmp_path: Path) -> None:
    config = configure(wise_ft="select", epochs=1, pictures=1)
    result = train(config, tmp_path / "run", judge=Bench(random_weights, 0.5))
    assert result.share == 0 and any("One group of training pictures" in note for note in result.notes)


def test_selection_without_a_judge_is_an_error(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a judge"):
        train(configure(wise_ft="select"), tmp_path / "run")
