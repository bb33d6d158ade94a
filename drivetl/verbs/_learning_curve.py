"""``drivetl train --learning-curve``: adapt on nested subsets of the training pictures and draw what each gave."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import __version__
from drivetl.errors import ConfigError, DatasetError, quoted
from drivetl.files import write_json
from drivetl.verbs._console import Reporter
from drivetl.verbs._train_figures import judge_of, trained_on_notes, under

if TYPE_CHECKING:
    from drivetl.adapt.config import TrainConfig
    from drivetl.adapt.run_folder import RunFolder
    from drivetl.data.dataset import Dataset

__all__ = ["CurveRequest", "adapt_on_subsets", "recorded_sizes", "sizes_of"]


@dataclass(frozen=True, slots=True)
class CurveRequest:
    """What is asked for.

    Attributes:
        out: the folder of it all; each subset has one of its own inside.
        sizes: numbers of labelled pictures, rising.
        split: the split that is measured on.
        resume: keep finished subsets and go on.
        overwrite: replace what stands at ``out``.
    """

    out: Path
    sizes: tuple[int, ...]
    split: str | None
    resume: bool
    overwrite: bool


def sizes_of(text: str) -> tuple[int, ...]:
    """Read ``10,25,50``.

    Raises:
        ConfigError: it is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = {int(part) for part in parts if part.isascii() and part.isdigit() and int(part) > 0}
    if len(numbers) < len(parts):
        raise ConfigError(f"--learning-curve takes different numbers of pictures such as 10,25,50, not {quoted(text)}")
    return tuple(sorted(numbers))


def recorded_sizes(out: Path) -> tuple[int, ...] | None:
    """Return the sizes of the learning curve that was begun in a folder; None if none was."""
    from drivetl.adapt.run_folder import RunFolder
    from drivetl.config import load_yaml

    path = RunFolder(out).config
    entry = load_yaml(path).get("learning_curve") if path.is_file() else None
    if not isinstance(entry, dict) or "pictures" not in entry:
        return None
    sizes = entry["pictures"]
    if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
        raise ConfigError(
            f"{quoted(path)} is damaged: learning_curve.pictures is {quoted(sizes)}, not numbers of pictures; start "
            "again with --overwrite"
        )
    return tuple(sizes)


def adapt_on_subsets(
    config: TrainConfig, request: CurveRequest, reporter: Reporter
) -> tuple[dict[str, Any], list[str]]:
    """Train on each number of pictures, measure, fit the law and draw it; return the JSON document and the lines.

    Raises:
        ConfigError, DatasetError: the numbers or the settings do not fit the dataset.
        OutputError: see `drivetl.adapt.run_folder.RunFolder.open`.
    """
    from drivetl.adapt.run_folder import RunFolder
    from drivetl.data import open_dataset
    from drivetl.yolo.weights import resolve_weights

    dataset = open_dataset(config.data)
    split = _check(config, request, dataset)
    start = resolve_weights(config.weights)
    folder = RunFolder(request.out)
    identity = _identity(config, request, dataset, start)
    with folder.open(identity, resume=request.resume, overwrite=request.overwrite):
        return _carried_out(config, request, dataset, (start, split), folder, reporter)


def _carried_out(
    config: TrainConfig,
    request: CurveRequest,
    dataset: Dataset,
    measured: tuple[Path, str],
    folder: RunFolder,
    reporter: Reporter,
) -> tuple[dict[str, Any], list[str]]:
    """Do what `adapt_on_subsets` does, in its folder; ``measured``: the start, and the split to measure on."""
    from drivetl.evaluate.labelling import labelling_curve

    start, split = measured
    zero_shot = _measure(start, config, split, folder.subset(0), reporter)
    trained: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
    for number, size in enumerate(request.sizes, start=1):
        reporter.say(f"Subset {number} of {len(request.sizes)}: {size} pictures")
        subset = folder.subset(size)
        result = _train(config.model_copy(update={"pictures": size}), subset, reporter)
        figures = _measure(Path(result["weights"]), config, split, subset, reporter)
        trained[size] = result, figures or {}
    curve = labelling_curve(
        config.data,
        _predictions(folder.subset(0)) if zero_shot is not None else None,
        {size: _predictions(folder.subset(size)) for size in request.sizes},
        progress=reporter.progress,
    )
    document = curve.document()
    for point in document["points"]:
        if point["pictures"]:
            result = trained[point["pictures"]][0]
            point |= {name: result[name] for name in ("weights", "share", "optimiser_steps", "seconds")}
    document["notes"] += _notes(config, split, dataset, trained)
    document["picture"] = str(folder.learning_curve_picture)
    _write_png(folder.learning_curve_picture, curve.draw())
    write_json(folder.learning_curve, document, overwrite=True)
    result, figures = trained[request.sizes[-1]]
    files = f"Drawn in {folder.learning_curve_picture}, figures in {folder.learning_curve}"
    lines = [*curve.lines(), *document["notes"][len(curve.notes) :], files]
    return {**result, "zero_shot": zero_shot, "adapted": figures, "learning_curve": document}, lines


def _check(config: TrainConfig, request: CurveRequest, dataset: Dataset) -> str:
    """Check what can be checked before anything is written; return the split to measure on."""
    if config.pictures is not None:
        raise ConfigError(f"--learning-curve sets 'pictures' itself; leave out pictures = {config.pictures}")
    if config.labels == "teacher":
        raise ConfigError("with labels 'teacher' no label is read, so that no learning curve over labels can be drawn")
    if config.idle_patience:
        raise ConfigError(config.idle_patience)
    if request.split is None:
        raise DatasetError(
            f"{quoted(config.data)} has neither 'test' nor 'val' to measure a learning curve on; "
            "make one with: drivetl data split"
        )
    if request.split == "train":
        raise ConfigError(
            "--learning-curve measures on pictures that are not trained on; give --split another split than 'train'"
        )
    most = dataset.splits.get("train", 0)
    if request.sizes[-1] > most:
        raise ConfigError(f"--learning-curve asks for {request.sizes[-1]} pictures, but the split 'train' has {most}")
    return request.split


def _identity(config: TrainConfig, request: CurveRequest, dataset: Dataset, start: Path) -> dict[str, Any]:
    from drivetl.files import git_commit, sha256_file

    return {
        "drivetl": __version__,
        "git_commit": git_commit(),
        "train": config.model_dump(mode="json"),
        "weights_sha256": sha256_file(start),
        "dataset_fingerprint": dataset.fingerprint,
        "learning_curve": {"pictures": list(request.sizes), "split": request.split},
    }


def _train(config: TrainConfig, folder: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """Train on one subset, or return what it gave when it was finished before."""
    from drivetl.adapt.training import train

    if folder.result.is_file():
        return folder.read_result()
    # Killed between its last weights and its result, it still has the state that gives both once more.
    begun = folder.config.is_file() and (folder.state.is_file() or not folder.adapted.is_file())
    if not begun:
        shutil.rmtree(folder.root, ignore_errors=True)
    result = train(
        config,
        folder.root,
        judge=judge_of(config),
        resume=begun,
        progress=under(f"{config.pictures} pictures", reporter),
        say=reporter.say,
    )
    return result.document()


def _measure(
    model: Path, config: TrainConfig, split: str, folder: RunFolder, reporter: Reporter
) -> dict[str, Any] | None:
    """Measure weights and keep the predictions; None where they have no class of the dataset."""
    from drivetl.data import open_dataset
    from drivetl.evaluate import evaluate, open_model
    from drivetl.taxonomy import map_detections

    done = folder.root / "evaluation.json"
    if done.is_file():
        kept: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return kept
    opened = open_model(model, size_hw=(config.imgsz, config.imgsz), device=config.device, threads=config.threads)
    if not map_detections(opened.class_names, open_dataset(config.data).names):
        return None
    progress = under("zero-shot" if folder.root.name == "0" else f"{folder.root.name} pictures", reporter)
    found = evaluate(opened, config.data, split=split, progress=progress)
    found.predictions.write(_predictions(folder), overwrite=True)
    document = found.document(progress)
    write_json(done, document, overwrite=True)
    return document


def _predictions(folder: RunFolder) -> Path:
    return folder.root / "predictions.json"


def _notes(
    config: TrainConfig, split: str, dataset: Dataset, trained: dict[int, tuple[dict[str, Any], dict[str, Any]]]
) -> list[str]:
    notes = []
    kept = [str(size) for size, (result, _) in trained.items() if result["share"] == 0]
    if kept:
        notes.append(f"The start was kept with {', '.join(kept)} pictures, because nothing trained was better.")
    choice = config.choice(dataset.splits)
    if choice is not None:
        chooser, chosen = choice
        count = dataset.splits[chooser]
        notes.append(f"The {count} labelled pictures of {chooser!r} choose {chosen} and are not counted.")
        if chooser == split:
            notes.append(f"The split {split!r} is measured on too, so the figures are slightly too good.")
    return [*notes, *trained_on_notes(split, dataset)]


def _write_png(target: Path, image_bgr: Any) -> None:
    import cv2

    from drivetl.files import atomic_file

    _, encoded = cv2.imencode(".png", image_bgr)
    with atomic_file(target, overwrite=True) as temporary:
        temporary.write_bytes(encoded.tobytes())
