"""``drivetl evaluate``: average precision of a checkpoint or a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._engine import EngineCacheOption, EngineWatch, refuse_idle_cache
from drivetl.verbs._options import DeviceOption, ImgszOption, ThreadsOption, percent, score_lines, size_from
from drivetl.verbs._slices import agreement_lines, error_lines, slice_lines
from drivetl.wording import counted

if TYPE_CHECKING:
    from drivetl.evaluate import EvaluationResult, Model

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("evaluate")(evaluate)


_Model = Annotated[
    str, typer.Argument(help="A checkpoint (.pt), the name of published weights, a bundle, or a predictions file.")
]
_Data = Annotated[list[Path], typer.Option("--data", help="Dataset folder or data.yaml; may be given again.")]
_Split = Annotated[
    str | None,
    typer.Option("--split", help="Which split to measure on; default: val, or a predictions file's own."),
]
_Weather = Annotated[
    bool, typer.Option("--weather", help="Also in every weather condition at every severity: mPC and rPC.")
]
_Slices = Annotated[
    bool, typer.Option("--slices", help="Also by weather, time of day, scene, size, distance, occlusion and pairs.")
]
_Errors = Annotated[
    bool, typer.Option("--errors", help="Also the kinds of errors, confusion, precision-recall, calibration.")
]
_Recall = Annotated[
    float | None, typer.Option("--recall", min=0.001, max=1, help="With --errors: the threshold for this recall.")
]
_FalseAlarms = Annotated[
    float | None,
    typer.Option("--false-alarms", min=0, help="With --errors: the threshold for so many a picture at most."),
]
_Agreement = Annotated[
    bool,
    typer.Option("--agreement", help="Also how far detections agree when mirrored and in weather: a proxy."),
]
_Predictions = Annotated[
    Path | None, typer.Option("--predictions", help="Also write what was found, as JSON for drivetl compare.")
]
_NoFigure = Annotated[
    bool,
    typer.Option("--allow-no-figure", help="A model without a class of the dataset gets no figure, and is no error."),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file that --predictions names.")]


def evaluate(
    model: _Model,
    data: _Data,
    split: _Split = None,
    imgsz: ImgszOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    engine_cache: EngineCacheOption = None,
    weather: _Weather = False,
    slices: _Slices = False,
    errors: _Errors = False,
    recall: _Recall = None,
    false_alarms: _FalseAlarms = None,
    agreement: _Agreement = False,
    predictions: _Predictions = None,
    allow_no_figure: _NoFigure = False,
    overwrite: _Overwrite = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure accuracy (AP by the COCO protocol) through the letterbox and decoder of the car.

    A predictions file that an earlier evaluation wrote (--predictions) takes the model's place where only its
    detections are needed.

    Example: drivetl evaluate yolo11n --data datasets/fog --split test --slices
    """
    refuse_idle_cache(device.partition(":")[0], engine_cache, "--device")
    if predictions is not None:
        _check_predictions(predictions, data, overwrite)
    if not errors and (recall, false_alarms) != (None, None):
        raise ConfigError("--recall and --false-alarms ask for a threshold, which comes with --errors; add it")
    reporter = Reporter("evaluate", as_json)
    further = (weather, slices, errors, recall, false_alarms, agreement)
    if allow_no_figure and any(further):
        raise ConfigError("--allow-no-figure leaves nothing to cut further; give it with --predictions alone")
    request = _Request(split, *further, predictions, allow_no_figure, overwrite)
    with reporter.working():
        if model.endswith(".json"):
            for value, option in ((imgsz, "--imgsz"), (threads, "--threads"), (device != "cpu", "--device")):
                if value:
                    raise ConfigError(f"{option} is for a model, and {quoted(model)} is a file of predictions")
            documents = [_recorded(Path(model), data, request, reporter)]
        else:
            opened = _opened(model, imgsz, device, threads, engine_cache, reporter)
            documents = [_measured(opened, path, request, reporter) for path in data]
    lines: list[str] = []
    for document in documents:
        pictures = counted(document["images"], "picture")
        lines += ["", f"{document['model']} on {document['data']} ({document['split']}, {pictures})"]
        lines += _lines(document)
    reporter.finish({**documents[0], "datasets": documents} if len(documents) > 1 else documents[0], lines[1:])


def _opened(
    model: str, imgsz: str | None, device: str, threads: int | None, engine_cache: Path | None, reporter: Reporter
) -> Model:
    """Open the model, and say so while TensorRT builds an engine for it; a checkpoint has none."""
    from drivetl.evaluate import open_model

    provider = device.partition(":")[0] if Path(model).is_dir() else None
    with EngineWatch(reporter, provider, engine_cache):
        return open_model(model, size_hw=size_from(imgsz), device=device, threads=threads, engine_cache=engine_cache)


def _lines(document: dict[str, Any]) -> list[str]:
    """Return everything that was measured on one dataset as lines for people."""
    lines = [*score_lines(document), _interval_line(document["interval"])]
    if "conditions" in document:
        lines += _weather_lines(document)
    for name, shown in (("slices", slice_lines), ("errors", error_lines), ("agreement", agreement_lines)):
        if name in document:
            lines += shown(document[name])
    if document["missing_classes"] is None:
        lines.append(
            "The file does not say which classes the model lacks, nor what was not scored; evaluate again with "
            "--predictions to know."
        )
    if document["missing_classes"]:
        lines.append(f"The model has no class for: {', '.join(document['missing_classes'])}.")
    if document["dropped"]:
        lines.append(f"Not scored, because the dataset has no such class: {sum(document['dropped'].values())}.")
    return [*lines, *document["notes"]]


@dataclass(frozen=True, slots=True)
class _Request:
    """What to measure beside the accuracy over all pictures."""

    split: str | None
    weather: bool
    slices: bool
    errors: bool
    recall: float | None
    false_alarms: float | None
    agreement: bool
    predictions: Path | None
    allow_no_figure: bool
    overwrite: bool


def _measured(model: Model, data: Path, request: _Request, reporter: Reporter) -> dict[str, Any]:
    from drivetl.evaluate import Run, evaluate_weather

    run = Run(model, data, split=request.split or "val", may_share_no_class=request.allow_no_figure)
    result = run.evaluate(reporter.progress)
    if request.predictions is not None:
        result.predictions.write(request.predictions, overwrite=request.overwrite)
    document = {"data": str(data), **result.document(reporter.progress)}
    if not result.class_mapping:
        return _without_figures(document)
    if request.weather:
        document |= evaluate_weather(run, result.score.map50_95, progress=reporter.progress).document()
    if request.agreement:
        from drivetl.evaluate.agreement import agreement_on

        taken = result.predictions
        document["agreement"] = agreement_on(run, result.truth, taken.found, taken.groups, progress=reporter.progress)
    return document | _further(result, data, request, reporter)


def _without_figures(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a model that has no class of the dataset: a zero would say that it looked and missed."""
    kept: dict[str, Any] = {**document, "map50_95": None, "map50": None, "per_dataset": {}}
    kept["by_size"] = dict.fromkeys(document["by_size"])
    none = {"map50_95": None, "map50": None}
    kept["per_class"] = {
        name: {**entry, **none, "interval": {**entry["interval"], **none}}
        for name, entry in document["per_class"].items()
    }
    note = "No figure: the model has no class of the dataset."
    kept["interval"] = {**document["interval"], **none, "note": note}
    return kept


def _recorded(file: Path, data: list[Path], request: _Request, reporter: Reporter) -> dict[str, Any]:
    from drivetl.evaluate.recorded import evaluate_recorded

    asked = (len(data) > 1, "a second --data"), (request.weather, "--weather"), (request.agreement, "--agreement")
    for wrong, option in asked:
        if wrong:
            raise ConfigError(
                f"{option} needs the model, and {quoted(file)} is a file of predictions on one dataset; give the "
                "checkpoint or the bundle instead"
            )
    if request.predictions is not None:
        raise ConfigError(f"{quoted(file)} is a file of predictions already; leave --predictions out")
    result = evaluate_recorded(file, data[0], split=request.split, progress=reporter.progress)
    document = {"data": str(data[0]), **result.document(reporter.progress)}
    return document | _further(result, data[0], request, reporter)


def _further(result: EvaluationResult, data: Path, request: _Request, reporter: Reporter) -> dict[str, Any]:
    """Return what the detections say beyond the accuracy over all pictures."""
    further: dict[str, Any] = {}
    found, names = result.predictions.found, result.predictions.class_names
    if request.slices:
        from drivetl.evaluate.labels import read_labels
        from drivetl.evaluate.slices import evaluate_slices

        labels = read_labels(data, result.split, reporter.progress)
        cut = evaluate_slices(labels.truth, found, result.predictions.groups, labels.facts, progress=reporter.progress)
        further["slices"] = cut.document()
    if request.errors:
        from drivetl.evaluate.anatomy import anatomy

        further["errors"] = anatomy(
            result.truth,
            found,
            names,
            pictures=[picture.file_name for picture in result.predictions.pictures],
            recall=request.recall,
            false_alarms=request.false_alarms,
        )
    return further


def _weather_lines(document: dict[str, Any]) -> list[str]:
    """Return the table of conditions and severities, worst condition first."""
    conditions = document["conditions"]
    width = max(len(name) for name in conditions)
    lines = [
        "",
        f"mAP50-95 by severity ({document['suite']})",
        f"{'condition':<{width}}  {'mean':>5}" + _row(range(1, 6)),
    ]
    for name, entry in sorted(conditions.items(), key=lambda row: row[1]["map50_95"] or 0.0):
        levels = _row(percent(score["map50_95"]) for score in entry["severities"].values())
        lines.append(f"{name:<{width}}  {percent(entry['map50_95'])}{levels}")
    left = (
        "nothing to compare with" if document["rpc"] is None else f"{document['rpc']:.1%} of the clean figure is left"
    )
    clean, mpc = (percent(document[name]).strip() for name in ("clean", "mpc"))
    return [*lines, f"clean {clean}, mPC {mpc}: {left}"]


def _row(cells: Iterable[object]) -> str:
    return "".join(f"  {cell!s:>5}" for cell in cells)


def _check_predictions(target: Path, data: list[Path], overwrite: bool) -> None:
    from drivetl.evaluate.predictions import refuse_existing

    if len(data) > 1:
        raise ConfigError(
            f"--predictions takes one --data, not {len(data)}: a file holds the predictions on one dataset; "
            "evaluate each on its own"
        )
    refuse_existing(target, overwrite=overwrite)


def _interval_line(interval: dict[str, Any]) -> str:
    if interval["note"]:
        return str(interval["note"])
    (low, high), (low50, high50) = interval["map50_95"], interval["map50"]
    return (
        f"95 % interval over {interval['groups']} groups: mAP50-95 {low:.3f} to {high:.3f}, "
        f"mAP50 {low50:.3f} to {high50:.3f}"
    )
