"""What ``drivetl train`` measures around a training: weights before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.errors import DatasetError, quoted
from drivetl.progress import Progress
from drivetl.verbs._console import Reporter

if TYPE_CHECKING:
    from drivetl.adapt.config import TrainConfig
    from drivetl.adapt.selection import ClassFigures, Judge
    from drivetl.data.dataset import Dataset

# As the benchmarks count: a class with fewer boxes says more of chance than of a model.
_MIN_BOXES = 20

__all__ = [
    "comparison",
    "figure_notes",
    "figures_of",
    "judge_of",
    "report_split",
    "retention_document",
    "retention_lines",
    "retention_of",
    "trained_on_notes",
    "under",
    "usage_lines",
]


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


def figures_of(
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
    progress = under(label, reporter)
    return {split: evaluate(opened, config.data, split=split, progress=progress).document() for split in splits}


def judge_of(config: TrainConfig) -> Judge:
    """Return what measures weights for a run: `drivetl.evaluate` at the run's own size."""
    from drivetl.evaluate import Run, score_in

    def judge(
        weights: Path,
        data: Path,
        split: str,
        pictures: frozenset[Path] | None,
        weather: tuple[str, int] | None = None,
    ) -> ClassFigures:
        size_hw = (config.imgsz, config.imgsz)
        run = Run(
            weights, data, split=split, size_hw=size_hw, device=config.device, threads=config.threads, only=pictures
        )
        found = run.evaluate().score if weather is None else score_in(run, *weather)
        return {
            name: (score.map50_95, score.boxes)
            for name, score in found.per_class.items()
            if score.map50_95 is not None and name not in run.missing_classes
        }

    return judge


def retention_of(weights: Path, config: TrainConfig) -> ClassFigures | None:
    """Return AP by class on the source pictures; None where the settings name none."""
    if config.retention is None:
        return None
    return judge_of(config)(weights, config.retention, config.retention_split, None)


def retention_document(
    before: ClassFigures | None, after: ClassFigures | None, config: TrainConfig
) -> dict[str, Any] | None:
    """Return what is left on source pictures, over the classes that both models have, each with a box.

    ``before``, ``after`` and ``difference`` are means over these classes, None without any; ``frequent`` has the same
    over those of them with at least ``min_boxes`` boxes, because a class of three boxes says little and weighs as much.
    """
    if before is None or after is None:
        return None
    shared = [name for name in before if name in after]
    frequent = [name for name in shared if before[name][1] >= _MIN_BOXES]
    return {
        "data": str(config.retention),
        "split": config.retention_split,
        **_means(before, after, shared),
        "frequent": {"min_boxes": _MIN_BOXES, "classes": len(frequent), **_means(before, after, frequent)},
        "per_class": {
            name: {"before": before[name][0], "after": after[name][0], "boxes": before[name][1]} for name in shared
        },
    }


def _means(before: ClassFigures, after: ClassFigures, names: list[str]) -> dict[str, float | None]:
    """Return the means over some classes, and their difference; None without a class."""
    if not names:
        return {"before": None, "after": None, "difference": None}
    was, now = (sum(figures[name][0] for name in names) / len(names) for figures in (before, after))
    return {"before": was, "after": now, "difference": now - was}


def retention_lines(document: dict[str, Any] | None) -> list[str]:
    """Return the same for people."""
    if document is None:
        return []
    classes = len(document["per_class"])
    if not classes:
        return [f"No class that both models have has a box in the retention split {document['split']!r}."]
    return [
        f"Retention, mAP50-95 over {classes} shared classes of {document['data']}, split {document['split']!r}: "
        f"{document['before']:.3f} before, {document['after']:.3f} after ({document['difference']:+.3f})"
        f"{_frequent(document['frequent'], classes)}"
    ]


def _frequent(entry: dict[str, Any], classes: int) -> str:
    if entry["classes"] in (0, classes):
        return ""
    of = f"the {entry['classes']}" if entry["classes"] > 1 else "the one"
    return f"; over {of} with at least {entry['min_boxes']} boxes {entry['difference']:+.3f}"


def usage_lines(document: dict[str, Any]) -> list[str]:
    """Return for people what the training cost."""
    rate, memory, gpu = (document[k] for k in ("pictures_per_second", "peak_memory_mib", "peak_gpu_memory_mib"))
    parts = [f"{document['seconds']:g} s, the choice of the weights included"]
    if rate is not None:
        parts.append(f"{document['pictures']:g} pictures trained on in the last fit, {rate:.1f} a second")
    if memory is not None:
        parts.append(f"peak memory {memory:.0f} MiB")
    if gpu is not None:
        parts.append(f"{gpu:.0f} MiB on the GPU")
    return [", ".join(parts)]


def under(name: str, reporter: Reporter) -> Progress:
    """Return the reporter's progress under a name that tells the evaluation before from the one after."""

    def progress(label: str, done: int, total: int | None) -> None:
        reporter.progress(f"{name}: {label}", done, total)

    return progress


def trained_on_notes(reported: str, dataset: Dataset) -> list[str]:
    """Say it where pictures that are measured on were trained on."""
    from drivetl.data.shared import in_both

    common = in_both(dataset.pictures(reported), dataset.pictures("train"))
    if not common:
        return []
    return [
        f"{len(common)} of the {dataset.splits[reported]} pictures of {reported!r} stand in 'train' too, so the "
        "adapted figure is too good."
    ]


def figure_notes(reported: str | None, config: TrainConfig, dataset: Dataset) -> list[str]:
    """Return what limits the figures before and after."""
    notes = []
    if reported is None:
        notes.append("The dataset has neither 'test' nor 'val', so there are no figures before and after.")
    elif (choice := config.choice(dataset.splits)) is not None and reported == choice[0]:
        notes.append(
            f"The split {reported!r} also chose {choice[1]}, so the adapted figure is slightly too good on it."
        )
    elif reported == "train":
        notes.append("The split 'train' was trained on, so the adapted figure says nothing of other pictures.")
    else:
        notes += trained_on_notes(reported, dataset)
    if config.retention is None:
        notes.append(
            "What the model forgot was not measured, because no source pictures were named: --retention DATASET does."
        )
    elif (config.retention, config.retention_split) == (config.replay, config.replay_split):
        notes.append(
            f"The source pictures of {config.retention_split!r} were also replayed in training, so the retention on "
            "them is too good; name others with --retention."
        )
    if config.retention is not None and config.wise_ft == "select":
        notes.append(
            f"The source pictures of {config.retention_split!r} also counted when the share was chosen, so the "
            "retention on them is slightly too good."
        )
    return notes


def comparison(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    def row(name: str, key: str, split: str) -> str:
        values = [found.get(split, {}).get(key) for found in (before, after)]
        zero_shot, adapted = (f"{value:.3f}" if isinstance(value, float) else "-" for value in values)
        return f"  {name:<10}  {zero_shot:>9}  {adapted:>9}"

    lines = []
    for split, figures in after.items():
        lines.append(f"On {figures.get('images', '?')} pictures of {split!r}: zero-shot, adapted")
        lines += [row("mAP50-95", "map50_95", split), row("mAP50", "map50", split)]
    return lines
