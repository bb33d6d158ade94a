"""Domain shift: the statistics against closed forms and by simulation, and real clear roads against real fog."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.data import import_dataset
from drivetl.data.records import Box
from drivetl.errors import ConfigError, DatasetError
from drivetl.evaluate.description import Described, describe, pictures_of
from drivetl.evaluate.distances import frechet, kernel_of, mmd_test, nearest, reduced, relabelled, two_means
from drivetl.evaluate.picture_figures import BOX_FIGURES, FIGURES, picture_figures
from drivetl.evaluate.selection import select
from drivetl.evaluate.shift import domain_shift
from drivetl.yolo import TorchModel


def test_frechet_of_normal_distributions_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(0, 1, (200_000, 2))
    other = rng.normal(0, 1, (200_000, 2)) * (2, 3) + (3, 4)
    # Independent axes: squared distance of means plus squared distances of standard deviations.
    assert frechet(one, other) == pytest.approx(25 + 1 + 4, rel=0.01)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)


def test_mmd_is_the_double_sum_of_its_definition() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (9, 3))
    first = np.arange(9) < 4
    kernel = kernel_of(values)
    labels = relabelled([str(n) for n in range(9)], first, rng)

    def plain(side: np.ndarray) -> float:
        a, b = np.flatnonzero(side), np.flatnonzero(~side)
        inside_a = sum(kernel[i, j] for i in a for j in a if i != j) / (len(a) * (len(a) - 1))
        inside_b = sum(kernel[i, j] for i in b for j in b if i != j) / (len(b) * (len(b) - 1))
        return inside_a + inside_b - 2 * sum(kernel[i, j] for i in a for j in b) / (len(a) * len(b))

    value, chance = mmd_test(kernel, first, labels)
    assert value == pytest.approx(plain(first))
    expected = (1 + sum(plain(side) >= value - 1e-12 for side in labels)) / (1 + len(labels))
    assert chance == pytest.approx(expected)


def test_p_values_of_one_source_are_uniform_although_groups_resemble_each_other() -> None:
    rng = np.random.default_rng(2)
    below, below_ungrouped = 0, 0
    for _ in range(60):
        group = np.repeat(np.arange(20), 4)
        values = rng.normal(0, 1, (20, 3))[group] + rng.normal(0, 0.3, (80, 3))
        first = group < 10
        kernel = kernel_of(values)
        below += mmd_test(kernel, first, relabelled([f"{g}" for g in group], first, rng))[1] < 0.1
        alone = relabelled([str(n) for n in range(80)], first, rng)
        below_ungrouped += mmd_test(kernel, first, alone)[1] < 0.1
    assert below <= 13  # of 60 at 10 %; more than 13 would be chance in one of 200 runs
    assert below_ungrouped > 30, "pictures alone would see a shift where there is none"


def test_whole_groups_change_sides() -> None:
    groups = [f"{n // 3}" for n in range(30)]
    labels = relabelled(groups, np.arange(30) < 12, np.random.default_rng(0))
    assert (labels.reshape(len(labels), 10, 3).std(axis=2) == 0).all()
    assert (labels.sum(axis=1) == 12).all()


def test_two_means_leave_out_what_is_unknown() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 40), rng.normal(2, 1, 40)])
    values[::7] = np.nan
    first = np.arange(80) < 40
    source, target, effect, chance = two_means(values, first, relabelled([str(n) for n in range(80)], first, rng))
    assert (source, target) == (pytest.approx(np.nanmean(values[:40])), pytest.approx(np.nanmean(values[40:])))
    assert 1.3 < effect < 2.7 and chance < 0.01


def test_a_side_without_any_value_is_not_compared() -> None:
    rng = np.random.default_rng(0)
    first = np.arange(40) < 20
    labels = relabelled([str(n) for n in range(40)], first, rng)
    with pytest.raises(ValueError, match="no mean"):
        two_means(np.where(first, rng.normal(0.1, 0.02, 40), np.nan), first, labels)
    # Two values are known, far from zero: a relabelling that puts both on one side has nothing to say of the other.
    few = np.full(40, np.nan)
    few[0], few[30] = 5.0, 5.1
    source, target, _, chance = two_means(few, first, labels)
    assert (source, target, chance) == (5.0, 5.1, 1.0)


@pytest.mark.parametrize(("bare", "note"), [((1,), "the target has no labels"), ((0,), "the source has no labels"),
                                            ((0, 1), "neither side has labels")])  # fmt: skip
def test_boxes_are_not_compared_with_an_unlabelled_side(bare: tuple[int, ...], note: str) -> None:
    rng = np.random.default_rng(0)
    boxes = [list(FIGURES).index(name) for name in BOX_FIGURES]
    sides = []
    for number in range(2):
        side = made_up(30, rng.normal(1.5 * number, 1, (30, 8)))
        side.figures[:] = rng.normal(0.5, 0.05, side.figures.shape)
        if number in bare:
            side.figures[:, boxes] = np.nan, 0.0
        sides.append(side)
    result = domain_shift(*sides)
    assert {entry.name for entry in result.differences} == set(FIGURES) - set(BOX_FIGURES)
    assert result.found and "box" not in result.sentence()
    assert result.notes == (f"Boxes are not compared: {note}.",) and result.document()["notes"] == list(result.notes)
    sides[bare[0]].figures[0, boxes] = 0.5, 1.0  # one label is a label
    if len(bare) == 1:
        assert len(domain_shift(*sides).differences) == len(FIGURES) and not domain_shift(*sides).notes


def test_figures_of_made_up_pictures() -> None:
    names = list(FIGURES)
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (180, 320, 3), dtype=np.uint8)
    hazy = (0.3 * sharp + 0.7 * 200).astype(np.uint8)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 3)
    box = Box("car", (0.0, 0.0, 32.0, 18.0))
    one, other, soft = (picture_figures(np.asarray(p, np.uint8), [box]) for p in (sharp, hazy, blurred))
    at = {name: index for index, name in enumerate(names)}
    assert other[at["haze"]] > one[at["haze"]] + 0.4 and other[at["contrast"]] < 0.5 * one[at["contrast"]]
    assert soft[at["sharpness"]] < one[at["sharpness"]] - 2
    assert one[at["box size"]] == pytest.approx(0.1) and one[at["boxes"]] == 1
    assert np.isnan(picture_figures(sharp, [])[at["box size"]])
    assert picture_figures(np.full((90, 160, 3), 51, np.uint8), [])[at["brightness"]] == pytest.approx(0.2)


def made_up(count: int, features: np.ndarray, doubt: np.ndarray | None = None) -> Described:
    figures = np.zeros((count, len(FIGURES)))
    return Described(
        tuple(Path(f"{n}.jpg") for n in range(count)),
        tuple(f"g{n}" for n in range(count)),
        features,
        figures,
        np.full(count, 0.5) if doubt is None else doubt,
    )


def test_too_few_pictures_are_refused() -> None:
    many, few = made_up(20, np.random.default_rng(0).normal(0, 1, (20, 4))), made_up(5, np.zeros((5, 4)))
    with pytest.raises(DatasetError, match="the target has 5 pictures"):
        domain_shift(many, few)


def test_in_a_folder_neighbouring_frames_are_one_group_and_equal_names_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for drive in ("monday", "tuesday"):
        (tmp_path / drive).mkdir()
        scene = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        for number in range(3):
            cv2.imwrite(str(tmp_path / drive / f"{number:06}.png"), np.roll(scene, number, axis=1))
    found = pictures_of(tmp_path, None, 10, rng)
    groups = {sample.image.relative_to(tmp_path).parts[0]: set[str]() for sample in found}
    for sample in found:
        groups[sample.image.parent.name].add(sample.group)
    assert len(found) == 6 and all(len(names) == 1 for names in groups.values())
    assert groups["monday"] != groups["tuesday"]


def test_selection_covers_every_kind_once_before_any_twice() -> None:
    rng = np.random.default_rng(0)
    centres = 10 * np.eye(5)
    pool = made_up(50, centres[np.arange(50) % 5] + rng.normal(0, 0.1, (50, 5)))
    picks = select(pool, 5, weight=0.0)
    assert {int(Path(pick.picture).stem) % 5 for pick in picks} == set(range(5))
    labelled = made_up(8, centres[np.arange(8) % 2] + rng.normal(0, 0.1, (8, 5)))
    first = select(pool, 3, labelled=labelled, weight=0.0)
    assert {int(Path(pick.picture).stem) % 5 for pick in first} == {2, 3, 4}
    doubt = np.linspace(0, 1, 50)
    assert [pick.picture for pick in select(made_up(50, pool.features, doubt), 2, weight=1.0)] == ["49.jpg", "48.jpg"]
    with pytest.raises(ConfigError, match="fewer than --budget 51"):
        select(pool, 51)


@pytest.mark.material
def test_what_cannot_be_looked_at_is_said(material: Path, tmp_path: Path) -> None:
    pool, model = str(material / "data" / "kitti-day" / "image_2"), str(material / "weights" / "yolo11n.pt")

    def refused(*words: str) -> str:
        result = CliRunner().invoke(app, ["data", *words, "--model", model])
        assert isinstance(result.exception, ConfigError), result.output
        return str(result.exception)

    assert "multiples of 32" in refused("shift", pool, pool, "--imgsz", "100")
    assert "raise --limit above 8" in refused("select", pool, "--budget", "9", "--limit", "8")
    assert "--limit" not in refused("select", pool, "--budget", "76")
    assert "--split 'val' is for datasets" in refused("shift", pool, pool, "--split", "val")
    some = CliRunner().invoke(app, ["data", "select", pool, "--budget", "2", "--limit", "8", "--model", model])
    assert "Chosen from 8 pictures" in some.stderr and len(some.stdout.split()) == 2


@pytest.mark.material
def test_clear_roads_against_fog_and_against_themselves(material: Path, tmp_path: Path) -> None:
    """KITTI against DAWN: found, and named as haze or contrast. KITTI's halves: nothing, nearly always."""
    import_dataset("kitti", material / "data" / "kitti-day", tmp_path / "kitti", val=0.0)
    import_dataset("voc", material / "data" / "dawn-fog", tmp_path / "dawn", card="dawn")
    model = TorchModel(material / "weights" / "yolo11n.pt")
    rng = np.random.default_rng(0)
    clear, fog = (
        describe(pictures_of(tmp_path / name, None, 75, rng), model, size_hw=(320, 320)) for name in ("kitti", "dawn")
    )
    assert clear.features.shape == (75, 64 + 128 + 256)
    result = domain_shift(clear, fog)
    assert result.found and result.p_value < 0.01
    assert {"haze", "contrast"} & {entry.name for entry in result.differences if entry.named}
    assert len(result.farthest) == 20 and result.farthest[0][1] >= result.farthest[-1][1]
    document = result.document()
    assert "haze" in document["sentence"] or "contrast" in document["sentence"]

    components = reduced(clear.features)
    kernel, found = kernel_of(components), 0
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        first = np.isin(np.arange(75), drawn.permutation(75)[:37])
        found += mmd_test(kernel, first, relabelled([str(n) for n in range(75)], first, drawn))[1] < 0.05
    print(document["sentence"], document["frechet"], "halves found different:", found)
    assert found <= 3
    assert nearest(components[:3], components).shape == (3,)
