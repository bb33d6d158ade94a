"""From a recipe to the verbs that carry it out, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivetl.config import StrictModel
from drivetl.recipe import (
    TRAIN_DATASETS,
    TRAIN_FILES,
    DataStage,
    FallbackStage,
    Recipe,
    ScenesStage,
    Stage,
    TrainSettings,
    WeatherStage,
    dataset_folders,
    named_files,
)

__all__ = ["stages"]


def stages(recipe: Recipe, folder: Path, weights: Path, *, fell_back: bool = False) -> list[Stage]:
    """Return the stages of a recipe in order.

    Args:
        recipe: what to do.
        folder: where the run keeps its results.
        weights: the resolved checkpoint to start from.
        fell_back: ``weights`` are those of the recipe's fallback.
    """
    dataset, prepared = _dataset(recipe, folder)
    if recipe.scenes is not None:
        found = [_render_stage("render", recipe.scenes, dataset, recipe.seed, depth=recipe.weather is not None)]
    else:
        found = list(_data_stages(recipe, folder))
    if recipe.weather is not None:
        found.append(_weather_stage(recipe, recipe.weather, dataset, folder / "weather", prepared))
    needs: tuple[str, ...] = (prepared,)
    train, start = recipe.train, weights
    if fell_back and recipe.fallback is not None:
        found += _source_stages(recipe, recipe.fallback, folder, weights)
        train, start, needs = (
            recipe.fallback.train,
            folder / "source_train" / "weights" / "adapted.pt",
            (prepared, "source_train"),
        )
    adapted = folder / "train" / "weights" / "adapted.pt"
    found += _measured(recipe, "zero_shot", start, folder, needs)
    found.append(_train_stage("train", recipe, train, dataset, start, folder / "train", needs))
    found += _measured(recipe, "adapted", adapted, folder, ("train", prepared))
    sides = [str(folder / "predictions" / f"{name}.json") for name in ("zero_shot", "adapted")]
    compared = ("compare", "--data", str(dataset), "--before", sides[0], "--after", sides[1], "--min-boxes", "1")
    found.append(Stage("compare", compared, needs=("zero_shot", "adapted"), share=4))
    return [*found, *_deploy_stages(recipe, folder, dataset, adapted), *_show_stages(recipe, folder, dataset)]


def _dataset(recipe: Recipe, folder: Path) -> tuple[Path, str]:
    """Return the dataset to train and measure on, and the stage that makes it."""
    if recipe.data is None:
        return folder / "dataset", "render"
    # Not one folder for both: of a split that was made before, nothing would show that an import has replaced it.
    return (folder / "imported", "import") if recipe.data.selection == 0 else (folder / "dataset", "split")


def _data_stages(recipe: Recipe, folder: Path) -> Iterator[Stage]:
    assert recipe.data is not None, "the recipe's validator lets only scenes be without"
    imported, (dataset, prepared) = folder / "imported", _dataset(recipe, folder)
    command = _import_command(recipe.data, imported, recipe.seed)
    own = dataset_folders(recipe.data.source) if recipe.data.format == "yolo" else (recipe.data.source,)
    sources = (*own, *named_files(recipe.data.card, recipe.data.names))
    yield Stage("import", command, sources=sources, replaces=True)
    if dataset != imported:
        yield Stage("split", _split_command(recipe, recipe.data, imported, dataset), needs=("import",), replaces=True)
    yield Stage("check", ("data", "check", str(dataset)), needs=(prepared,))


def _render_stage(name: str, scenes: ScenesStage, out: Path, seed: int, *, depth: bool = False) -> Stage:
    counts = tuple(w for split in ("train", "val", "test") for w in (f"--{split}", str(getattr(scenes, split))))
    command = (
        "scenes",
        "render",
        scenes.preset,
        "--out",
        str(out),
        *counts,
        "--size",
        scenes.size,
        "--seed",
        str(seed),
    )
    total = scenes.train + scenes.val + scenes.test
    sources = named_files(scenes.preset)
    return Stage(name, command + ("--depth",) * depth, sources=sources, replaces=True, share=4 + total / 15)


def _weather_stage(recipe: Recipe, weather: WeatherStage, dataset: Path, out: Path, prepared: str) -> Stage:
    what = ("--condition", weather.condition, "--severity", str(weather.severity), "--seed", str(recipe.seed))
    command = ("weather", "apply", str(dataset), "--split", recipe.report_split, "--out", str(out), *what)
    return Stage("weather", command, needs=(prepared,), replaces=True)


def _source_stages(recipe: Recipe, fallback: FallbackStage, folder: Path, weights: Path) -> list[Stage]:
    dataset = folder / "source"
    return [
        _render_stage("source", fallback.source, dataset, recipe.seed),
        _train_stage(
            "source_train", recipe, fallback.source_train, dataset, weights, folder / "source_train", ("source",)
        ),
    ]


def _train_stage(
    name: str, recipe: Recipe, train: TrainSettings, dataset: Path, weights: Path, out: Path, needs: tuple[str, ...]
) -> Stage:
    command = ("train", "--data", str(dataset), "--weights", str(weights), "--out", str(out))
    # The stages before and after measure, on the split that nothing was chosen with.
    options = ("--imgsz", str(recipe.imgsz), "--device", recipe.device, "--seed", str(recipe.seed), "--no-figures")
    named = [Path(str(train[key])) for key in TRAIN_FILES if train.get(key) is not None]
    datasets = [Path(str(train[key])) for key in TRAIN_DATASETS if train.get(key) is not None]
    named += [folder for dataset in datasets for folder in dataset_folders(dataset)]
    return Stage(
        name,
        (*command, *options),
        needs=needs,
        sources=(weights, *named),
        replaces=True,
        resumes=out / "config.yaml",
        share=10 + 12 * float(train.get("epochs", 10)),
        settings=train,
    )


def _measured(recipe: Recipe, name: str, model: Path, folder: Path, needs: tuple[str, ...]) -> Iterator[Stage]:
    """Yield the evaluation of a model, and the one under the recipe's weather."""
    sources = () if model.is_relative_to(folder) else (model,)
    where = ("--split", recipe.report_split, *_size(recipe), "--device", recipe.device)
    dataset = ("--data", str(_dataset(recipe, folder)[0]))
    predictions = ("--predictions", str(folder / "predictions" / f"{name}.json"))
    # The start may know no class of the dataset; training gives it a head that does.
    blind = () if name == "adapted" else ("--allow-no-figure",)
    evidence = ("--slices", "--errors") if name == "adapted" else ()
    command = ("evaluate", str(model), *dataset, *where, *predictions, *evidence, *blind)
    yield Stage(name, command, needs=needs, sources=sources, replaces=True, share=12)
    if recipe.weather is not None:
        weather = ("--data", str(folder / "weather"))
        needs = (*needs, "weather")
        command = ("evaluate", str(model), *weather, *where, *blind)
        yield Stage(f"{name}_weather", command, needs=needs, sources=sources, share=12)


def _size(recipe: Recipe) -> tuple[str, str]:
    return "--imgsz", recipe.input_size or str(recipe.imgsz)


def _deploy_stages(recipe: Recipe, folder: Path, dataset: Path, adapted: Path) -> Iterator[Stage]:
    bundle = str(folder / "bundle")
    report = ("--data", str(dataset), "--split", recipe.report_split)
    export = ("export", str(adapted), "--out", bundle, "--golden", str(dataset), *_size(recipe))
    yield Stage("export", export, needs=("train",), replaces=True, share=12)
    verify = ("verify", bundle, "--weights", str(adapted), *report, *_options(recipe.verify))
    yield Stage("verify", verify, needs=("export",), share=15)
    bench = ("bench", bundle, *_options(recipe.bench))
    yield Stage("bench", bench, needs=("export",), sources=named_files(recipe.bench.profile), share=10)


def _show_stages(recipe: Recipe, folder: Path, dataset: Path) -> Iterator[Stage]:
    source = recipe.video.source
    needs: tuple[str, ...] = ("export",)
    if recipe.drive is not None and recipe.scenes is not None:
        drive, shown = recipe.drive, folder / "drive"
        what = ("--frames", str(drive.frames), "--fps", str(drive.fps), "--seed", str(recipe.seed))
        weather = ("--condition", drive.condition, "--severity", str(drive.severity)) if drive.condition else ()
        command = ("scenes", "drive", recipe.scenes.preset, "--out", str(shown), "--size", recipe.scenes.size)
        preset = named_files(recipe.scenes.preset)
        yield Stage("drive", (*command, *what, *weather), sources=preset, replaces=True, share=4 + drive.frames / 15)
        needs = ("export", "drive")
    else:
        shown = source if source is not None else dataset / "images" / recipe.report_split
    video = ("video", str(shown), "--model", str(folder / "bundle"), "--out", str(folder / "video.mp4"))
    options = ("--confidence", str(recipe.video.confidence))
    sources = (source,) if source is not None else ()
    yield Stage("video", (*video, *options), needs=needs, sources=sources, replaces=True, share=8)
    suffixes = ("",) if recipe.weather is None else ("", "_weather")
    measured = [f"{name}{weather}" for name in ("zero_shot", "adapted") for weather in suffixes]
    page = ("report", str(folder), "--out", str(folder / "page.html"))
    yield Stage("page", page, needs=(*measured, "compare", "verify", "bench", "video"), replaces=True, share=8)


def _import_command(data: DataStage, out: Path, seed: int) -> tuple[str, ...]:
    options = {
        "--card": data.card,
        "--names": data.names,
        "--split-names": data.split_names,
        "--classes": data.classes,
        "--seed": str(seed),
    }
    if data.split_names is None:
        # The split stage cuts val. A source whose splits are renamed has some, and nothing is drawn there.
        options |= {"--val": "0", "--test": str(data.test)}
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    return ("data", "import", data.format, str(data.source), "--out", str(out), *given)


def _split_command(recipe: Recipe, data: DataStage, imported: Path, dataset: Path) -> tuple[str, ...]:
    share, seed = str(data.selection), str(recipe.seed)
    cut = ("--from", "train", "--into", "val", "--fraction", share, "--seed", seed)
    return ("data", "split", str(imported), "--out", str(dataset), *cut)


def _options(section: StrictModel) -> tuple[str, ...]:
    """Return a section's values as options, without those that were left out."""
    values: dict[str, Any] = section.model_dump(exclude_none=True)
    return tuple(word for key, value in values.items() for word in (f"--{key.replace('_', '-')}", str(value)))
