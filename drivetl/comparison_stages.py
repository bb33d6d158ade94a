"""Which verbs a comparison comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetl.comparison_recipe import TARGET, ZERO_SHOT, ComparisonRecipe, SourceStage
from drivetl.errors import ConfigError, quoted
from drivetl.recipe import TRAIN_DATASETS, TRAIN_FILES, Stage, dataset_folders, named_files

__all__ = ["comparison_stages", "labels_of", "runs_by_seed", "runs_of", "zero_shot_runs"]


@dataclass(frozen=True, slots=True)
class _Part:
    """What one training sees: everything, or one fold.

    Attributes:
        suffix: of the names of its runs.
        data: datasets to train on.
        needs: the stages that make them.
    """

    suffix: str
    data: tuple[Path, ...]
    needs: tuple[str, ...]


def comparison_stages(recipe: ComparisonRecipe, folder: Path, weights: Path, base: Path) -> list[Stage]:
    """Return the stages of a comparison in order.

    Args:
        recipe: what to compare.
        folder: where the run keeps its results.
        weights: the resolved checkpoint that every arm starts from.
        base: the recipe's own folder, from which relative files are meant.

    Raises:
        ConfigError: two stages would have the same name or write to the same place.
    """
    found = [stage for name in recipe.sources for stage in _source(name, recipe.sources[name], folder, base)]
    if recipe.folds is not None:
        found.append(_folding(recipe, folder))
    found += _measured(recipe, folder, ZERO_SHOT, weights, (), _reports(recipe, folder))
    for part in _parts(recipe, folder):
        found += _measured(recipe, folder, f"{ZERO_SHOT}{part.suffix}", weights, (), _target(recipe, part))
    for arm in recipe.arms:
        for seed in recipe.seeds:
            for part in _parts(recipe, folder):
                found += _trained(recipe, folder, weights, base, (arm, seed, part))
    found += _compared(recipe, folder)
    _refuse_twins(found)
    return found


def _refuse_twins(stages: list[Stage]) -> None:
    """Names are put together from several, so that the arms ``a`` and ``a_0`` may come to the same one."""
    taken: set[str | Path] = set()
    for stage in stages:
        places: tuple[str | Path, ...] = (stage.name, *stage.outputs)
        for place in places:
            if place in taken:
                raise ConfigError(
                    f"two stages of the comparison would be called, or write to, {quoted(place)}; give another name to "
                    "a source, an arm or a set of pictures that it is put together from, and name no pair of 'compare' "
                    "twice"
                )
            taken.add(place)


def labels_of(recipe: ComparisonRecipe) -> tuple[str, ...]:
    """Return what is reported on: the test pictures of the folds first."""
    return (*([TARGET] if recipe.folds is not None else []), *recipe.report_on)


def runs_of(recipe: ComparisonRecipe, arm: str) -> tuple[str, ...]:
    """Return the names under which a trained arm was measured: one for each seed and fold."""
    return tuple(name for names in runs_by_seed(recipe, arm) for name in names)


def runs_by_seed(recipe: ComparisonRecipe, arm: str) -> tuple[tuple[str, ...], ...]:
    """Return the same for each seed: one name, or one for each fold."""
    parts = _parts(recipe, Path())
    return tuple(tuple(f"{arm}_{seed}{part.suffix}" for part in parts) for seed in recipe.seeds)


def zero_shot_runs(recipe: ComparisonRecipe, label: str) -> tuple[str, ...]:
    """Return the names under which the start was measured on ``label``: one, or one for each fold."""
    return tuple(f"{ZERO_SHOT}{part.suffix}" for part in _parts(recipe, Path())) if label == TARGET else (ZERO_SHOT,)


def _parts(recipe: ComparisonRecipe, folder: Path) -> list[_Part]:
    if recipe.folds is None:
        data = tuple(folder / "data" / source for source in recipe.train_on)
        return [_Part("", data, tuple(_ready(recipe, source) for source in recipe.train_on))]
    folds = folder / "data" / f"{recipe.train_on[0]}_folds"
    return [_Part(f"_fold{k}", (folds / f"fold{k}",), ("folds",)) for k in range(recipe.folds.count)]


def _ready(recipe: ComparisonRecipe, source: str) -> str:
    """Return the stage after which a source is what the recipe says."""
    moves = recipe.sources[source].moves
    return f"move_{source}_{len(moves)}" if moves else f"import_{source}"


def _source(name: str, source: SourceStage, folder: Path, base: Path) -> Iterator[Stage]:
    values = {"--card": source.card, "--names": source.names, "--split-names": source.split_names}
    options = [word for key, value in values.items() if value is not None for word in (key, value)]
    # Each step writes a dataset of its own, so that every one of them can be repeated.
    steps = [folder / "data" / f"{name}_{number}" for number in range(len(source.moves))] + [folder / "data" / name]
    out = ("--out", str(steps[0]), "--val", str(source.val))
    command = ("data", "import", source.format, str(source.source), *out, *options)
    own = dataset_folders(source.source) if source.format == "yolo" else (source.source,)
    sources = (*own, *named_files(source.card, source.names))
    yield Stage(f"import_{name}", command, sources=sources, replaces=True, share=1)
    before = f"import_{name}"
    for number, move in enumerate(source.moves, start=1):
        file = base / move.list
        words = ("--from", move.from_split, "--into", move.into, "--list", str(file))
        command = ("data", "split", str(steps[number - 1]), "--out", str(steps[number]), *words)
        stage = Stage(f"move_{name}_{number}", command, needs=(before,), sources=(file,), replaces=True, share=1)
        before = stage.name
        yield stage


def _folding(recipe: ComparisonRecipe, folder: Path) -> Stage:
    source, folds = recipe.train_on[0], recipe.folds
    if folds is None:
        raise ValueError("the recipe has no folds")
    out = str(folder / "data" / f"{source}_folds")
    words = ("--out", out, "--folds", str(folds.count), "--seed", str(folds.seed))
    command = ("data", "folds", str(folder / "data" / source), *words)
    return Stage("folds", command, needs=(_ready(recipe, source),), replaces=True, share=1)


def _trained(
    recipe: ComparisonRecipe, folder: Path, weights: Path, base: Path, which: tuple[str, int, _Part]
) -> Iterator[Stage]:
    arm, seed, part = which
    name = f"{arm}_{seed}{part.suffix}"
    plain = recipe.trainer(arm) == "ultralytics"
    settings, files, needs = _settings(recipe, folder, base, arm)
    settings["seed"] = seed
    data = tuple(word for place in part.data for word in ("--data", str(place)))
    out = folder / name
    start = ("--weights", str(weights), "--out", str(out))
    if plain:
        command = ("baseline", *data, *start, "--device", recipe.device, *_threads(recipe))
    else:
        command = ("train", *data, *start, "--no-figures")
        settings["device"] = recipe.device
        if recipe.threads is not None:
            settings["threads"] = recipe.threads
    yield Stage(
        f"train_{name}",
        command,
        needs=(*part.needs, *needs),
        sources=(weights, *files),
        replaces=True,
        resumes=None if plain else out / "config.yaml",
        share=20,
        settings=settings,
    )
    reports = {**_target(recipe, part), **_reports(recipe, folder)}
    results = out / "weights"
    yield from _measured(recipe, folder, name, results / "adapted.pt", (f"train_{name}",), reports)
    share = settings.get("wise_ft", 1.0)
    if not plain and share != "select" and float(share) < 1:
        yield from _measured(recipe, folder, f"{name}_alone", results / "alone.pt", (f"train_{name}",), reports)


def _settings(
    recipe: ComparisonRecipe, folder: Path, base: Path, arm: str
) -> tuple[dict[str, Any], tuple[Path, ...], tuple[str, ...]]:
    """Return the settings of an arm with every path resolved, the files they name, and the stages they need."""
    settings = {**recipe.settings(arm), "imgsz": recipe.imgsz}
    files: list[Path] = []
    needs: list[str] = []
    for key in TRAIN_FILES:
        if settings.get(key) is not None:
            files.append(base / str(settings[key]))
            settings[key] = str(files[-1])
    for key in TRAIN_DATASETS:
        if (source := settings.get(key)) in recipe.sources:
            needs.append(_ready(recipe, str(source)))
            settings[key] = str(folder / "data" / str(source))
        elif source is not None:
            files += dataset_folders(Path(str(source)))
    return settings, tuple(files), tuple(needs)


_Reports = dict[str, tuple[Path, str, str]]


def _reports(recipe: ComparisonRecipe, folder: Path) -> _Reports:
    """Return the fixed pictures to report on: label → dataset, split, and the stage that makes it."""
    return {
        label: (folder / "data" / report.data, report.split, _ready(recipe, report.data))
        for label, report in recipe.report_on.items()
    }


def _target(recipe: ComparisonRecipe, part: _Part) -> _Reports:
    return {} if recipe.folds is None else {TARGET: (part.data[0], "test", "folds")}


def _measured(
    recipe: ComparisonRecipe, folder: Path, name: str, weights: Path, needs: tuple[str, ...], reports: _Reports
) -> Iterator[Stage]:
    threads = _threads(recipe)
    # The start may know no class of the dataset; training gives it a head that does.
    blind = () if needs else ("--allow-no-figure",)
    for label, (data, split, ready) in reports.items():
        yield Stage(
            f"{name}_{label}",
            (
                *("evaluate", str(weights), "--data", str(data), "--split", split),
                *("--imgsz", str(recipe.imgsz), "--device", recipe.device, *threads),
                *("--predictions", str(_predictions(folder, name, label)), *blind),
            ),
            needs=(ready, *needs),
            sources=() if needs else (weights,),
            replaces=True,
            share=3,
        )


def _threads(recipe: ComparisonRecipe) -> tuple[str, ...]:
    return () if recipe.threads is None else ("--threads", str(recipe.threads))


def _predictions(folder: Path, name: str, label: str) -> Path:
    return folder / "predictions" / f"{name}_{label}.json"


def _compared(recipe: ComparisonRecipe, folder: Path) -> Iterator[Stage]:
    for pair in recipe.compare:
        for label in labels_of(recipe):
            before, after = (
                zero_shot_runs(recipe, label) if arm == ZERO_SHOT else runs_of(recipe, arm)
                for arm in (pair.before, pair.after)
            )
            sides = [("--before", name) for name in before] + [("--after", name) for name in after]
            files = [word for side, name in sides for word in (side, str(_predictions(folder, name, label)))]
            places = (
                [p.data[0] for p in _parts(recipe, folder)]
                if label == TARGET
                else [folder / "data" / recipe.report_on[label].data]
            )
            data = [word for place in places for word in ("--data", str(place))]
            classes = recipe.report_on[label].classes if label != TARGET else None
            only = ("--only", ",".join(classes)) if classes else ()
            command = ("compare", *data, "--min-boxes", str(recipe.min_boxes), *only, *files)
            needs = tuple(f"{name}_{label}" for name in (*before, *after))
            yield Stage(f"compare_{pair.before}_{pair.after}_{label}", command, needs=needs, share=1)
