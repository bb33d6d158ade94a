"""``drivetl train``: adapt weights to a dataset, with figures before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetl.errors import ConfigError, DatasetError, quoted
from drivetl.progress import Progress
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter

if TYPE_CHECKING:
    from drivetl.adapt.config import TrainConfig
    from drivetl.adapt.selection import ClassFigures, Judge
    from drivetl.data.dataset import Dataset

__all__ = ["register", "report_split"]

_HELD_OUT = "held_out"
# The options that are settings of `drivetl.adapt.config.TrainConfig`; what is not given is left to its defaults.
_SETTINGS = (
    "weights",
    "epochs",
    "imgsz",
    "batch",
    "device",
    "lr0",
    "optimizer",
    "freeze",
    "patience",
    "seed",
    "workers",
    "threads",
)


def register(app: typer.Typer) -> None:
    """Add the verb ``train``."""
    app.command("train")(_train)


def _train(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="The run's folder.")],
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="A dataset; give several and they are merged.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A .pt file, or a name such as yolo11n.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A YAML file with a section 'train', or the name of one in configs/.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="How often every picture is seen.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Picture size in pixels, a multiple of 32.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures per batch.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.")] = None,
    lr0: Annotated[float | None, typer.Option(help="Learning rate; obeyed as given.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="AdamW, Adam or SGD.")] = None,
    freeze: Annotated[int | None, typer.Option(help="Layers from the input that keep their weights.")] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without gain before stopping; 0 never.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same weights.")] = None,
    workers: Annotated[int | None, typer.Option(help="Loader processes on a GPU.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split for the figures; default: test if there is one, else val.")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="NAME", help="Of several --data: train without it, report on it."),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Measure before and after; drivetl evaluate does it too.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in --out.")] = False,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Fine-tune a COCO-pretrained YOLO on a dataset, and measure it before and after.

    Ctrl-C keeps the finished epochs: the same command with --resume continues, and ends in the same weights as if it
    had never stopped.

    Example: drivetl train --data datasets/fog --weights yolo11n --epochs 10 --out runs/fog
    """
    given = {name: context.params[name] for name in _SETTINGS if context.params[name] is not None}
    request = _Request(out, tuple(data or ()), tuple(leave_out or ()), recipe, given, split, figures, resume, overwrite)
    reporter = Reporter("train", json)
    with reporter.working():
        document, lines = _adapt(request, reporter)
    reporter.finish(document, lines)


@dataclass(frozen=True, slots=True)
class _Request:
    """The command line, sorted: ``given`` holds the settings of `TrainConfig` that were passed."""

    out: Path
    data: tuple[Path, ...]
    leave_out: tuple[str, ...]
    recipe: str | None
    given: dict[str, Any]
    split: str | None
    figures: bool
    resume: bool
    overwrite: bool


def _adapt(request: _Request, reporter: Reporter) -> tuple[dict[str, Any], list[str]]:
    """Measure, train, measure again; return the JSON document and the lines for people."""
    from drivetl.adapt.head_transfer import transfer_table
    from drivetl.adapt.training import train
    from drivetl.data import open_dataset
    from drivetl.yolo.weights import resolve_weights

    place, merge_notes = _dataset(request, reporter)
    config = _config(request, place)
    dataset = open_dataset(config.data)
    reported = report_split(dataset, request.split) if request.figures else None
    held_out = _HELD_OUT if request.leave_out and request.figures else None
    splits = [split for split in (reported, held_out) if split is not None]
    start = resolve_weights(config.weights)
    before = _figures(start, config, splits, "zero-shot", reporter) if splits else {}
    try:
        result = train(
            config,
            request.out,
            judge=judge_of(config),
            resume=request.resume,
            overwrite=request.overwrite,
            progress=reporter.progress,
            say=reporter.say,
        )
    except KeyboardInterrupt:
        reporter.say(f"Interrupted; finished epochs are kept. To continue: drivetl train --resume --out {request.out}")
        raise
    after = _figures(result.weights, config, splits, "adapted", reporter) if splits else {}
    notes = [*merge_notes, *result.notes, *(_figure_notes(reported, config) if request.figures else [])]
    if splits and not before:
        notes.append("The weights know no class of the dataset, so there is no figure before.")
    document: dict[str, Any] = {
        **result.document(),
        "notes": notes,
        "zero_shot": before.get(reported or ""),
        "adapted": after.get(reported or ""),
    }
    if held_out:
        document["left_out"] = {"zero_shot": before.get(_HELD_OUT), "adapted": after[_HELD_OUT]}
    lines = [*transfer_table(result.head_transfer), *notes, *_comparison(before, after), f"Weights: {result.weights}"]
    return document, lines


def _dataset(request: _Request, reporter: Reporter) -> tuple[Path | None, list[str]]:
    """Return the dataset to train on: the one given, or the merged ones. None: the recipe or the run names it."""
    if request.leave_out and len(request.data) < 2:
        raise ConfigError(
            f"--leave-out {quoted(request.leave_out[0])} needs --data at least twice, one of them so named"
        )
    if len(request.data) < 2:
        return (request.data[0] if request.data else None), []
    from drivetl.adapt.run_folder import RunFolder
    from drivetl.data import merge_datasets

    folder = RunFolder(request.out)
    if request.resume and folder.merged.is_dir():
        return folder.merged, []
    folder.require_free(overwrite=request.overwrite)
    merged = merge_datasets(
        request.data, folder.merged, leave_out=request.leave_out, overwrite=True, progress=reporter.progress
    )
    return folder.merged, list(merged.notes)


def _config(request: _Request, data: Path | None) -> TrainConfig:
    """Put the settings together: the recipe's, or those of the run to resume, and the options over them."""
    from drivetl.adapt.config import TrainConfig
    from drivetl.adapt.run_folder import load_run_config
    from drivetl.config import load_yaml, parse_model

    document: Any = {}
    where = "the options of drivetl train"
    if request.recipe is not None:
        path = _recipe_path(request.recipe)
        where = str(path)
        document = load_yaml(path).get("train", {})
        if not isinstance(document, dict):
            raise ConfigError(f"{quoted(path)}: 'train' must hold a mapping of settings")
    elif request.resume:
        document = load_run_config(request.out).model_dump(mode="json")
    document = {**document, **request.given}
    if data is not None:
        document["data"] = data
    for key in ("data", "weights"):
        if key not in document:
            raise ConfigError(f"drivetl train needs --{key}; see drivetl train --help")
    return parse_model(TrainConfig, document, where)


def _recipe_path(recipe: str) -> Path:
    from drivetl.resources import resource_file

    path = Path(recipe)
    return path if path.suffix in (".yaml", ".yml") else resource_file("configs", recipe)


def report_split(dataset: Dataset, wanted: str | None) -> str | None:
    """Return the split that figures are given for; None if there is none but what is trained on.

    Raises:
        DatasetError: the dataset lacks the split that was asked for.
    """
    if wanted is not None and wanted not in dataset.splits:
        raise DatasetError(
            f"the dataset has no split {quoted(wanted)} to report on; it has {', '.join(dataset.splits)}"
        )
    return wanted or next((split for split in ("test", "val") if split in dataset.splits), None)


def _figures(
    model: Path, config: TrainConfig, splits: list[str], label: str, reporter: Reporter
) -> dict[str, dict[str, Any]]:
    """Measure on each split; nothing where the model has no class of the dataset, as before its head is trained."""
    from drivetl.data import open_dataset
    from drivetl.evaluate import evaluate, open_model
    from drivetl.taxonomy import map_detections

    size_hw = (config.imgsz, config.imgsz)
    opened = open_model(model, size_hw=size_hw, device=config.device, threads=config.threads)
    if not map_detections(opened.class_names, open_dataset(config.data).names):
        return {}
    progress = _under(label, reporter)
    return {split: evaluate(opened, config.data, split=split, progress=progress).document() for split in splits}


def judge_of(config: TrainConfig) -> Judge:
    """Return what measures weights for a run: `drivetl.evaluate` at the run's own size."""
    from drivetl.evaluate import Run

    def judge(weights: Path, data: Path, split: str, pictures: frozenset[Path] | None) -> ClassFigures:
        size_hw = (config.imgsz, config.imgsz)
        run = Run(
            weights, data, split=split, size_hw=size_hw, device=config.device, threads=config.threads, only=pictures
        )
        result = run.evaluate()
        return {
            name: (score.map50_95, score.boxes)
            for name, score in result.score.per_class.items()
            if score.map50_95 is not None and name not in result.missing_classes
        }

    return judge


def _under(name: str, reporter: Reporter) -> Progress:
    """Return the reporter's progress under a name that tells the evaluation before from the one after."""

    def progress(label: str, done: int, total: int | None) -> None:
        reporter.progress(f"{name}: {label}", done, total)

    return progress


def _figure_notes(reported: str | None, config: TrainConfig) -> list[str]:
    if reported is None:
        return ["The dataset has neither 'test' nor 'val', so there are no figures before and after."]
    if reported == config.selection_split:
        return [f"The split {reported!r} also chose the epoch, so the adapted figure is slightly too good on it."]
    return []


def _comparison(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    def row(name: str, key: str, split: str) -> str:
        values = [found.get(split, {}).get(key) for found in (before, after)]
        zero_shot, adapted = (f"{value:.3f}" if isinstance(value, float) else "-" for value in values)
        return f"  {name:<10}  {zero_shot:>9}  {adapted:>9}"

    lines = []
    for split, figures in after.items():
        lines.append(f"On {figures.get('images', '?')} pictures of {split!r}: zero-shot, adapted")
        lines += [row("mAP50-95", "map50_95", split), row("mAP50", "map50", split)]
    return lines
