"""``drivetl train``: adapt weights to a dataset, with figures before and after."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._train_figures import (
    comparison,
    figure_notes,
    figures_of,
    judge_of,
    report_split,
    retention_document,
    retention_lines,
    retention_of,
    usage_lines,
)

if TYPE_CHECKING:
    from drivetl.adapt.config import TrainConfig

__all__ = ["judge_of", "register", "report_split"]

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
    "replay",
    "retention",
    "pictures",
)


# What is done where nobody says otherwise: whatever configs/bench_adaptation.yaml found to be best.
_DEFAULT_RECIPE = "adapt"


def register(app: typer.Typer) -> None:
    """Add the verb ``train``."""
    app.command("train")(_train)


_Out = Annotated[Path, typer.Option("--out", help="The run's folder.")]
_Data = Annotated[list[Path] | None, typer.Option("--data", help="A dataset; give several and they are merged.")]
_Weights = Annotated[str | None, typer.Option(help="A .pt file, or a name such as yolo11n.")]
_Recipe = Annotated[
    str | None,
    typer.Option(help="A YAML file with a section 'train', or the name of one in configs/.", show_default="adapt"),
]
_Epochs = Annotated[int | None, typer.Option(help="How often every picture is seen.")]
_Imgsz = Annotated[int | None, typer.Option(help="Picture size in pixels, a multiple of 32.")]
_Batch = Annotated[int | None, typer.Option(help="Pictures per batch.")]
_Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.")]
_Lr0 = Annotated[float | None, typer.Option(help="Learning rate; obeyed as given.")]
_Optimizer = Annotated[str | None, typer.Option(help="AdamW, Adam or SGD.")]
_Freeze = Annotated[int | None, typer.Option(help="Layers from the input that keep their weights.")]
_Patience = Annotated[int | None, typer.Option(help="Epochs without gain before stopping; 0 never.")]
_Seed = Annotated[int | None, typer.Option(help="Same seed, same weights.")]
_Workers = Annotated[int | None, typer.Option(help="Loader processes on a GPU.")]
_Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
_Replay = Annotated[Path | None, typer.Option(help="A dataset of source pictures, shown beside the new ones.")]
_Retention = Annotated[Path | None, typer.Option(help="A dataset of source pictures that tells what was forgotten.")]
_WiseFt = Annotated[
    str | None,
    typer.Option(
        "--wise-ft", metavar="SHARE|select", help="Share of the trained weights in the result; select finds it."
    ),
]
_Pictures = Annotated[int | None, typer.Option(help="Train on this many of the pictures only.")]
_Split = Annotated[str | None, typer.Option(help="Split for the figures; default: test if there is one, else val.")]
_LeaveOut = Annotated[
    list[str] | None,
    typer.Option("--leave-out", metavar="NAME", help="Of several --data: train without it, report on it."),
]
_Figures = Annotated[
    bool, typer.Option("--figures/--no-figures", help="Measure before and after; drivetl evaluate does it too.")
]
_LearningCurve = Annotated[
    str | None,
    typer.Option(
        "--learning-curve",
        metavar="10,25,…",
        help="Adapt on so many pictures each, a smaller number a part of a larger, and draw what they give.",
    ),
]
_Resume = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in --out.")]


def _train(
    context: typer.Context,
    out: _Out,
    data: _Data = None,
    weights: _Weights = None,
    recipe: _Recipe = None,
    epochs: _Epochs = None,
    imgsz: _Imgsz = None,
    batch: _Batch = None,
    device: _Device = None,
    lr0: _Lr0 = None,
    optimizer: _Optimizer = None,
    freeze: _Freeze = None,
    patience: _Patience = None,
    seed: _Seed = None,
    workers: _Workers = None,
    threads: _Threads = None,
    replay: _Replay = None,
    retention: _Retention = None,
    wise_ft: _WiseFt = None,
    pictures: _Pictures = None,
    split: _Split = None,
    leave_out: _LeaveOut = None,
    figures: _Figures = True,
    learning_curve: _LearningCurve = None,
    resume: _Resume = False,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Fine-tune a COCO-pretrained YOLO on a dataset, and measure it before and after.

    Ctrl-C keeps the finished epochs: the same command with --resume continues, and ends in the same weights as if it
    had never stopped.

    Example: drivetl train --data datasets/fog --weights yolo11n --epochs 10 --out runs/fog
    """
    given = {name: context.params[name] for name in _SETTINGS if context.params[name] is not None}
    if wise_ft is not None:
        given["wise_ft"] = _share(wise_ft)
    request = _Request(
        out=out,
        data=tuple(data or ()),
        leave_out=tuple(leave_out or ()),
        recipe=recipe,
        given=given,
        split=split,
        figures=figures,
        learning_curve=learning_curve,
        resume=resume,
        overwrite=overwrite,
    )
    reporter = Reporter("train", json)
    with reporter.working():
        document, lines = _adapt(request, reporter)
    reporter.finish(document, lines)


def _share(text: str) -> float | str:
    """Read --wise-ft; the settings check the range."""
    if text == "select":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--wise-ft takes a number from 0 to 1, or select, not {quoted(text)}") from None


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
    learning_curve: str | None
    resume: bool
    overwrite: bool


def _adapt(request: _Request, reporter: Reporter) -> tuple[dict[str, Any], list[str]]:
    """Measure, train, measure again; return the JSON document and the lines for people."""
    from drivetl.adapt.head_transfer import transfer_table
    from drivetl.adapt.training import check_run, train
    from drivetl.data import open_dataset
    from drivetl.yolo.weights import resolve_weights

    if request.resume and request.overwrite:
        raise ConfigError("--resume continues the run in --out and --overwrite replaces it; give one of them")
    place, merge_notes = _dataset(request, reporter)
    config = _config(request, place)
    dataset = open_dataset(config.data)
    reported = report_split(dataset, request.split) if request.figures else None
    if (sizes := _curve_sizes(request)) is not None:
        return _learning_curve(config, request, sizes, reporter)
    check_run(config, request.out, resume=request.resume, overwrite=request.overwrite)
    held_out = _HELD_OUT if request.leave_out and request.figures else None
    splits = [split for split in (reported, held_out) if split is not None]
    start = resolve_weights(config.weights)
    before = figures_of(start, config, splits, "zero-shot", reporter) if splits else {}
    kept = retention_of(start, config) if request.figures else None
    with _resumable(request, reporter):
        result = train(
            config,
            request.out,
            judge=judge_of(config),
            resume=request.resume,
            overwrite=request.overwrite,
            progress=reporter.progress,
            say=reporter.say,
        )
    after = figures_of(result.weights, config, splits, "adapted", reporter) if splits else {}
    retained = retention_document(kept, retention_of(result.weights, config) if request.figures else None, config)
    notes = [*merge_notes, *result.notes, *(figure_notes(reported, config, dataset) if request.figures else [])]
    if splits and not before:
        notes.append("The weights know no class of the dataset, so there is no figure before.")
    document: dict[str, Any] = {
        **result.document(),
        "notes": notes,
        "zero_shot": before.get(reported or ""),
        "adapted": after.get(reported or ""),
        "retention": retained,
    }
    if held_out:
        document["left_out"] = {"zero_shot": before.get(_HELD_OUT), "adapted": after[_HELD_OUT]}
    lines = [*transfer_table(result.head_transfer), *notes, *comparison(before, after), *retention_lines(retained)]
    lines += [*usage_lines(document), f"Weights: {result.weights}"]
    return document, lines


def _curve_sizes(request: _Request) -> tuple[int, ...] | None:
    """Return the numbers of pictures of the learning curve that is asked for, or to be resumed."""
    from drivetl.verbs._learning_curve import recorded_sizes, sizes_of

    if request.learning_curve is not None:
        return sizes_of(request.learning_curve)
    return recorded_sizes(request.out) if request.resume else None


def _learning_curve(
    config: TrainConfig, request: _Request, sizes: tuple[int, ...], reporter: Reporter
) -> tuple[dict[str, Any], list[str]]:
    from drivetl.data import open_dataset
    from drivetl.verbs._learning_curve import CurveRequest, adapt_on_subsets

    if not request.figures:
        raise ConfigError("--learning-curve consists of figures; leave out --no-figures")
    split = _HELD_OUT if request.leave_out else report_split(open_dataset(config.data), request.split)
    curve = CurveRequest(request.out, sizes, split, request.resume, request.overwrite)
    with _resumable(request, reporter):
        return adapt_on_subsets(config, curve, reporter)


@contextmanager
def _resumable(request: _Request, reporter: Reporter) -> Iterator[None]:
    """Say how to continue what Ctrl-C interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        command = shlex.join(_continuing(request, reporter.as_json))
        reporter.say(f"Interrupted; finished epochs are kept, what was begun is done again. To continue: {command}")
        raise


def _continuing(request: _Request, as_json: bool) -> list[str]:
    """Return the command that resumes a run: the run itself keeps its settings, but not what was asked about it."""
    words = ["drivetl", "train", "--resume", "--out", str(request.out)]
    if request.leave_out:  # which is said of several --data
        words += [word for place in request.data for word in ("--data", str(place))]
        words += [word for name in request.leave_out for word in ("--leave-out", name)]
    if request.learning_curve is not None:
        words += ["--learning-curve", request.learning_curve]
    if request.split is not None:
        words += ["--split", request.split]
    return [*words, *["--no-figures"] * (not request.figures), *["--json"] * as_json]


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
    """Put the settings together: the recipe's, or those of the run to resume, and the options over them.

    Without either, it is the recipe that measured best, ``configs/adapt.yaml``.
    """
    from drivetl.adapt.config import TrainConfig
    from drivetl.adapt.run_folder import load_run_config
    from drivetl.config import load_yaml, parse_model, train_section

    document: Any = {}
    where = "the options of drivetl train"
    if request.resume and request.recipe is None:
        document = load_run_config(request.out).model_dump(mode="json")
    else:
        path = _recipe_path(request.recipe or _DEFAULT_RECIPE)
        where = where if request.recipe is None else str(path)
        document = train_section(load_yaml(path), path)
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
