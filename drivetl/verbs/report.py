"""``drivetl report``: the page of a run."""

from __future__ import annotations

import json as json_module
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._run_pictures import run_pictures

__all__ = ["register"]

_PAGE = "page.html"
_NEEDED = ("zero_shot", "train", "adapted", "export", "verify", "bench", "video")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("report")(report)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that drivetl run, demo or train made.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page; default: RUN/page.html.")] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Write the page of a run: one HTML file with its figures and pictures, which loads nothing from anywhere.

    Beside it go evidence.md and evidence.json, the same without pictures, and model_card.md; with --out fog.html they
    are fog.evidence.md and so on. A run that has not come to its end has a page too, which says what is missing. The
    page of drivetl train alone has the curves that its weights were chosen by, and nothing beside it.

    Example: drivetl report runs/demo --overwrite
    """
    from drivetl.files import atomic_file, json_bytes
    from drivetl.report import Unfinished, render_page, run_page
    from drivetl.report.words import evidence_document, markdown, model_card

    reporter = Reporter("report", json)
    if (run / "result.json").is_file() and not (run / "recipe.json").is_file():
        with reporter.working():
            document, lines = _trained(run, out or run / _PAGE, overwrite)
        reporter.finish(document, lines)
        return
    targets = _targets(run, out)
    with reporter.working(), ExitStack() as stack:
        recipe = _recipe(run)  # first: where there is no run, no folder is made for its page
        files = {name: stack.enter_context(atomic_file(path, overwrite=overwrite)) for name, path in targets.items()}
        records, refused = _records(run)
        stages = {name: record["result"] for name, record in records.items()}
        needed = (*_NEEDED, *(["zero_shot_weather", "adapted_weather"] if "weather" in stages else []))
        missing = [name for name in needed if name not in stages and name not in refused]
        unfinished = Unfinished(missing, refused)
        pictures = run_pictures(run, recipe, records, reporter.progress)
        page = run_page(
            recipe,
            stages,
            _log(run / "train" / "training_log.jsonl"),
            pictures,
            records=records,
            unfinished=unfinished,
            weight_curve=_weight_curve(run / "train" / "weight_curve.json"),
            learning_curve=_learning_curve(run / "train" / "learning_curve.json"),
        )
        evidence = json_bytes(evidence_document(page, stages, unfinished)).decode()
        texts = {"page": render_page(page), "markdown": markdown(page), "json": evidence}
        texts["model_card"] = model_card(recipe, stages, page)
        for name, text in texts.items():
            files[name].write_text(text, encoding="utf-8")
    document = {
        **{name: str(path) for name, path in targets.items()},
        "bytes": targets["page"].stat().st_size,
        "missing": missing,
        "refused": refused,
        "verdicts": [list(entry) for entry in page.verdicts],
    }
    reporter.finish(document, [str(targets["page"]), *(f"{mark}: {sentence}" for mark, sentence in page.verdicts)])


def _trained(run: Path, target: Path, overwrite: bool) -> tuple[dict[str, Any], list[str]]:
    """Write the page of a training run; return the JSON document and the lines."""
    from drivetl.config import load_yaml
    from drivetl.files import atomic_file
    from drivetl.report import render_page, training_page

    settings = load_yaml(run / "config.yaml")
    if not isinstance(settings, dict) or not _holds(settings.get("train"), "weights", "data"):
        raise ConfigError(f"{quoted(run / 'config.yaml')} is damaged; train again")
    page = training_page(
        _read(run / "result.json"),
        settings["train"],
        _log(run / "training_log.jsonl"),
        weight_curve=_weight_curve(run / "weight_curve.json"),
        learning_curve=_learning_curve(run / "learning_curve.json"),
    )
    with atomic_file(target, overwrite=overwrite) as temporary:
        temporary.write_text(render_page(page), encoding="utf-8")
    document = {
        "page": str(target),
        "bytes": target.stat().st_size,
        "verdicts": [list(entry) for entry in page.verdicts],
    }
    return document, [str(target), *(f"{mark}: {sentence}" for mark, sentence in page.verdicts)]


def _targets(run: Path, out: Path | None) -> dict[str, Path]:
    """Return the files to write; pages of other names each have their own evidence, so that a folder holds several."""
    page = out or run / _PAGE
    prefix = "" if page.name == _PAGE else f"{page.stem}."
    names = {"markdown": "evidence.md", "json": "evidence.json", "model_card": "model_card.md"}
    return {"page": page, **{name: page.parent / f"{prefix}{file}" for name, file in names.items()}}


def _recipe(run: Path) -> dict[str, Any]:
    path = run / "recipe.json"
    recipe = _read(path)
    if recipe.get("kind") == "comparison":
        raise ConfigError(
            f"{quoted(run)} is the run of a comparison, which has no page; look at comparison.png in it, which "
            "shows its pairs, and at the summary that drivetl run prints, also when everything was done before"
        )
    # What the page reads; the rest of a recipe is not its business.
    scenes, data, fallback = recipe.get("scenes"), recipe.get("data"), recipe.get("fallback")
    known = {
        "name": isinstance(recipe.get("name"), str),
        "started_from": isinstance(recipe.get("started_from"), str),
        "imgsz": "imgsz" in recipe,
        "scenes or data": _holds(scenes, "preset") if scenes else _holds(data, "format"),
        "fallback": not recipe.get("fell_back")
        or (_holds(fallback, "weights", "source") and _holds(recipe["fallback"]["source"], "preset")),
    }
    if missing := [name for name, holds in known.items() if not holds]:
        raise ConfigError(f"{quoted(path)} is damaged: it lacks {', '.join(missing)}; carry out the run again")
    return recipe


def _holds(document: Any, *keys: str) -> bool:
    return isinstance(document, dict) and document.keys() >= set(keys)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {quoted(path)}: {error.strerror}; is that the folder of a run?") from error


class _Kept(dict[str, Any]):
    """An object of a result file: a key that is looked up in it and is not there is the fault of the file."""

    def __init__(self, path: Path, members: dict[str, Any]) -> None:
        super().__init__(members)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise ConfigError(
            f"{quoted(self.path)} lacks {quoted(key)}: it is damaged, or another version of drivetl wrote it; carry "
            "out the run again"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json_module.loads(_text(path), object_hook=lambda members: _Kept(path, members))
    except ValueError as error:
        raise ConfigError(f"{quoted(path)} is damaged; carry out the run again") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{quoted(path)} is damaged; carry out the run again")
    return document


def _records(run: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the run has kept of every stage: its command and the JSON of its verb; and why gates said no."""
    from drivetl.report.verdicts import refusal

    # A name with a leading dot is half written: by this very verb, or by one that was killed.
    files = [path for path in sorted(run.glob("[!.]*.json")) if path.name != "recipe.json"]
    documents = {path.stem: _read(path) for path in files}
    records = {name: document for name, document in documents.items() if "result" in document}
    # The evidence beside the page tells of refusals as well; a stage's record has its command.
    said_no = {name: document for name, document in documents.items() if document.keys() >= {"refused", "command"}}
    # A gate that said no has measured all the same; where it could not even do that, it has an error and no figures.
    records |= {
        name: {**document, "result": document["refused"]}
        for name, document in said_no.items()
        if not _holds(document["refused"], "error")
    }
    for name, record in records.items():
        if not (isinstance(record["result"], dict) and isinstance(record.get("command", []), list)):
            raise ConfigError(f"{quoted(run / f'{name}.json')} is damaged; carry out the run again")
    refused = {name: refusal(document["refused"]) for name, document in said_no.items()}
    if "verify" not in documents and (verification := _verification(run / "bundle" / "report.json")) is not None:
        # Runs of drivetl before it kept refusals, and a verify by hand, left theirs in the bundle alone.
        refused |= {} if verification.get("passed") else {"verify": refusal(verification)}
    if not records and not refused:
        raise ConfigError(f"the run {quoted(run)} has not come as far as its first stage; carry it out first")
    return records, refused


def _verification(path: Path) -> dict[str, Any] | None:
    """Return what ``drivetl verify`` left in a bundle's report; None where it has not run."""
    verification = _read(path).get("verification") if path.is_file() else None
    return verification if isinstance(verification, dict) else None


def _log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the training log; none where the run has not trained."""
    if not path.is_file():
        return []
    try:
        lines = [json_module.loads(line) for line in _text(path).splitlines()]
    except ValueError as error:
        raise ConfigError(f"{quoted(path)} is damaged; carry out the run again") from error
    for number, line in enumerate(lines, start=1):
        if not _holds(line, "epoch"):
            raise ConfigError(f"{quoted(path)}, line {number}, is no line of a training log; carry out the run again")
    return lines


def _weight_curve(path: Path) -> list[dict[str, Any]]:
    """Return the points of the mixing weight; none where the run has not chosen one."""
    if not path.is_file():
        return []
    try:
        document = json_module.loads(_text(path))
    except ValueError as error:
        raise ConfigError(f"{quoted(path)} is damaged; carry out the run again") from error
    points = document.get("curve") if isinstance(document, dict) else None
    wanted = {"share", "target"}
    if not isinstance(points, list) or not all(isinstance(p, dict) and wanted <= p.keys() for p in points):
        raise ConfigError(f"{quoted(path)} holds no curve of points with share and target; carry out the run again")
    return points


def _learning_curve(path: Path) -> dict[str, Any] | None:
    """Return what numbers of labelled pictures gave; None where the run has not trained on several."""
    if not path.is_file():
        return None
    document = _read(path)
    wanted = {"points", "law", "extrapolation", "split", "test_pictures", "groups", "notes"}
    if missing := sorted(wanted - document.keys()):
        raise ConfigError(f"{quoted(path)} holds no learning curve: it lacks {', '.join(missing)}; train again")
    return document
