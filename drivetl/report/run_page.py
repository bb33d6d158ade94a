"""From the JSON of a run's stages to its page. The page says what a run did not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.cores import disturbed, load_sentence
from drivetl.report.evidence import (
    conditions_section,
    errors_section,
    latency_drawing,
    learning_drawings,
    source_of,
    weather_section,
    weight_section,
)
from drivetl.report.learning import learning_section
from drivetl.report.page import Bars, Figure, Page, Section, Table, jpeg_uri
from drivetl.report.verdicts import verdicts
from drivetl.wording import counted

__all__ = ["RunPictures", "Unfinished", "run_page", "training_section"]

_WIDTH_PX = 960
_SHEET_WIDTH_PX = 1440
_WORST_WIDTH_PX = 640
_LATENCY = ("p50", "p90", "p95", "p99", "max")

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class RunPictures:
    """Pictures of a run, uint8 BGR.

    Attributes:
        training: labelled pictures of the training split, as one sheet.
        before_after: pairs of one picture with the detections before and after, each with a caption.
        video: frames of the annotated video, as one sheet.
        missed: the worst misses, each with a caption.
        false_alarms: the worst false alarms, each with a caption.
    """

    training: Picture | None = None
    before_after: Sequence[tuple[Picture, Picture, str]] = ()
    video: Picture | None = None
    missed: Sequence[tuple[Picture, str]] = ()
    false_alarms: Sequence[tuple[Picture, str]] = ()


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a run has not done.

    Attributes:
        missing: stages that it has not come to.
        refused: stages whose verdict was no, each with the reason.
    """

    missing: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def run_page(
    recipe: Mapping[str, Any],
    stages: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    pictures: RunPictures,
    *,
    records: Mapping[str, Any] | None = None,
    unfinished: Unfinished | None = None,
    weight_curve: Sequence[Mapping[str, Any]] = (),
    learning_curve: Mapping[str, Any] | None = None,
) -> Page:
    """Return the page of a run.

    Args:
        recipe: the run's ``recipe.json``.
        stages: the JSON of its stages' verbs, by stage.
        log: the lines of the training log.
        pictures: what to show.
        records: what the run kept of each stage: its ``command`` and its ``result``.
        unfinished: what is missing because the run has not come to its end, or because a gate said no.
        weight_curve: the run's ``weight_curve.json``.
        learning_curve: the run's ``learning_curve.json``, where it trained on several numbers of pictures.
    """
    unfinished = unfinished or Unfinished()
    start, weights = _start(recipe), str(recipe["started_from"]).rpartition(".")[0]
    environment = (
        recipe["scenes"]["preset"] if recipe.get("scenes") else recipe["data"].get("card") or recipe["data"]["format"]
    )
    images = stages.get("zero_shot", stages.get("adapted", {})).get("images", "no")
    records = records or {}
    sections = [
        _missing_section(unfinished),
        _data_section(recipe, stages, pictures),
        _accuracy_section(start, stages, records),
        *_evidence_sections(stages, records, pictures),
        _pictures_section(start, pictures),
        training_section(stages, log, records),
        learning_section(learning_curve) if learning_curve else None,
        weight_section(weight_curve) if weight_curve else None,
        _bundle_section(stages, records),
        _video_section(stages, pictures),
    ]
    return Page(
        title=f"{recipe['name']}: {weights} on {environment}",
        lead=f"What changed between {start} and the adapted model, on {images} pictures that "
        "neither has seen, and what goes into the car. Every figure was measured by this run.",
        highlights=_highlights(stages),
        sections=[section for section in sections if section is not None],
        verdicts=verdicts(stages, log, weight_curve, unfinished.refused),
    )


def _missing_section(unfinished: Unfinished) -> Section | None:
    refused = unfinished.refused.items()
    sentences = [f"The run stopped at {name}, whose verdict is no: {reason.rstrip('.')}." for name, reason in refused]
    if unfinished.missing:
        sentences.append(f"The run has not come as far as: {', '.join(unfinished.missing)}.")
    return Section("Not in this run", sentences) if sentences else None


def _evidence_sections(
    stages: Mapping[str, Any], records: Mapping[str, Any], pictures: RunPictures
) -> list[Section | None]:
    adapted, record = stages.get("adapted", {}), records.get("adapted")
    found: list[Section | None] = []
    if adapted.get("slices"):
        found.append(conditions_section(adapted["slices"], source_of(record, "adapted", "slices", "single")))
    if adapted.get("errors"):
        found.append(errors_section(adapted["errors"], source_of(record, "adapted", "errors", "kinds")))
    for title, entries in (("Worst misses", pictures.missed), ("Worst false alarms", pictures.false_alarms)):
        if entries:
            figures = [Figure(jpeg_uri(image, width_px=_WORST_WIDTH_PX), text, text) for image, text in entries]
            words = {
                "Worst misses": "The largest labelled boxes that nothing found.",
                "Worst false alarms": "The most confident detections that stand on no box of their class.",
            }[title]
            found.append(Section(title, [f"{words} Detections from a confidence of 0.25."], figures=figures))
    for name in ("adapted", "adapted_weather", "weather_suite"):
        if stages.get(name, {}).get("conditions"):
            found.append(weather_section(stages[name], source_of(records.get(name), name, "conditions")))
    return found


def _start(recipe: Mapping[str, Any]) -> str:
    """Return in words what the figures before adaptation belong to."""
    if recipe.get("fell_back"):
        fallback = recipe["fallback"]
        return f"{fallback['weights']} trained on {fallback['source']['preset']}"
    return f"{str(recipe['started_from']).removesuffix('.pt')} as published"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _highlights(stages: Mapping[str, Any]) -> list[tuple[str, str]]:
    def change(name: str) -> str:
        pair = (stages.get(f"{model}{name}", {}).get("map50_95") for model in ("zero_shot", "adapted"))
        return " → ".join(_number(value) for value in pair)

    found = [(change(""), "mAP50-95 on held-out pictures, before → after")]
    if "zero_shot_weather" in stages:
        weather = stages["weather"]
        found.append((change("_weather"), f"the same in {weather['condition']}, severity {weather['severity']}"))
    if "bench" in stages:
        latency = stages["bench"]["latency_ms"]["end_to_end"]
        busy = ", on a disturbed machine" if disturbed(stages["bench"].get("load")) else ""
        found.append((f"{latency['p50']:.1f} ms", f"end to end on {stages['bench']['provider']}, median{busy}"))
    if "verify" in stages:
        verdict = "verified" if stages["verify"]["passed"] else "NOT verified"
        found.append((verdict, "the bundle gives what the weights give"))
    return found


def _data_section(recipe: Mapping[str, Any], stages: Mapping[str, Any], pictures: RunPictures) -> Section:
    # Where nothing was cut, a split.json is of an earlier run with another recipe.
    cut = "import" if (recipe.get("data") or {}).get("selection") == 0 else "split"
    made = stages.get("render") or stages.get(cut) or {}
    counts = ", ".join(f"{count} {split}" for split, count in made.get("splits", {}).items())
    paragraphs = [f"Pictures: {counts}." if counts else "The run's dataset."]
    if recipe.get("scenes"):
        paragraphs = [f"Scenes of {recipe['scenes']['preset']}, rendered with exact boxes and depth: {counts}."]
    tables = []
    if per_class := {name: count for name, count in made.get("per_class", {}).items() if count}:
        tables.append(Table(("class", *per_class), (("boxes", *map(str, per_class.values())),)))
    figures = []
    if pictures.training is not None:
        uri = jpeg_uri(pictures.training, width_px=_SHEET_WIDTH_PX)
        figures.append(
            Figure(uri, "Some of what the model was trained on, with its labels.", "Sheet of labelled pictures")
        )
    return Section("The road", paragraphs, tables, figures=figures, wide=True)


def _accuracy_section(start: str, stages: Mapping[str, Any], records: Mapping[str, Any]) -> Section | None:
    if "zero_shot" not in stages or "adapted" not in stages:
        return None
    before, after = stages["zero_shot"], stages["adapted"]
    headings = ["mAP50-95", "boxes", "before", "adapted"]
    pairs = [(before, after)]
    if {"zero_shot_weather", "adapted_weather"} <= stages.keys():
        condition = stages["weather"]["condition"]
        headings += [f"before, {condition}", f"adapted, {condition}"]
        pairs.append((stages["zero_shot_weather"], stages["adapted_weather"]))
    rows = [
        [name, str(entry["boxes"]), *(_number(d["per_class"][name]["map50_95"]) for pair in pairs for d in pair)]
        for name, entry in before["per_class"].items()
        if entry["boxes"]
    ]
    rows.append(["all classes", str(before["boxes"]), *(_number(d["map50_95"]) for pair in pairs for d in pair)])
    rows.append(["all classes, mAP50", "", *(_number(d["map50"]) for pair in pairs for d in pair)])
    paragraphs = [
        f"Before: {start}. Average precision by the COCO protocol, through the letterbox and decoder of the car."
    ]
    if before["missing_classes"]:
        paragraphs.append(f"Before, the model has no class for: {', '.join(before['missing_classes'])}.")
    table = Table(headings, rows, frozenset((len(rows) - 2,)))
    sources = [
        source for name in ("zero_shot", "adapted") for source in source_of(records.get(name), name, "per_class")
    ]
    return Section("Accuracy", paragraphs, [table], sources=sources)


def _pictures_section(start: str, pictures: RunPictures) -> Section | None:
    if not pictures.before_after:
        return None
    figures = []
    for before, after, caption in pictures.before_after:
        for image, which in ((before, f"Before ({start})"), (after, "Adapted")):
            figures.append(Figure(jpeg_uri(image, width_px=_WIDTH_PX), f"{which}: {caption}", f"Detections. {which}"))
    return Section("Before and after", ["Detections above a confidence of 0.25."], figures=figures)


def training_section(
    stages: Mapping[str, Any], log: Sequence[Mapping[str, Any]], records: Mapping[str, Any]
) -> Section | None:
    """Show how long was trained, what was chosen, and where each class started; None where nothing was trained."""
    if "train" not in stages:
        return None
    train = stages["train"]
    key = "metrics/mAP50-95(B)"
    epochs = [
        (f"epoch {line['epoch']}", float(line[key]), f"{line[key]:.3f}") for line in log if line.get(key) is not None
    ]
    # Without pictures to choose by, the log has no accuracy.
    why = "chosen on the val pictures" if epochs else "taken, the last one"
    chosen = f"; epoch {train['chosen_epoch']} was {why}" if train["epochs"] else ""
    paragraphs = [
        f"{counted(train['epochs'], 'epoch')}, {counted(train['optimiser_steps'], 'optimiser step')}, "
        f"{train['seconds']:.0f} s on {counted(train['threads'], 'thread')}{chosen}.",
        *train["notes"],
        "Where the classifier row of each class starts from:",
    ]
    rows = [(row["target"], " + ".join(row["sources"]) or "new", row["kind"]) for row in train["head_transfer"]]
    caption = "mAP50-95 on the val pictures after each epoch, by the trainer's own validator:"
    bars = [Bars(caption, epochs)] if epochs else []
    drawings = learning_drawings(log)
    return Section(
        "Adaptation",
        paragraphs,
        [Table(("class", "starts from", "because"), rows)],
        [] if drawings else bars,
        drawings=drawings,
        sources=source_of(records.get("train"), "train", "head_transfer"),
    )


def _bundle_section(stages: Mapping[str, Any], records: Mapping[str, Any]) -> Section | None:
    if not {"verify", "bench", "export"} <= stages.keys():
        return None
    verify, bench, export = stages["verify"], stages["bench"], stages["export"]
    paragraphs = [
        f"Parity on {counted(verify['pictures'], 'picture')}: raw scores differ by at most "
        f"{_finite(verify['max_abs_diff_scores'], '.1e')}, boxes by at most "
        f"{_finite(verify['max_abs_diff_px'], '.3f')} px; "
        f"{verify['matched']:.2%} of the detections match.",
        f"Latency in ms on {bench['provider']}, {_hardware(bench.get('machine', {}))}:",
    ]
    if (load := load_sentence(bench.get("load"))) is not None:
        paragraphs.insert(1, load)
    latency = bench["latency_ms"]
    rows = [
        [name.replace("_", " "), *("–" if ms[p] is None else f"{ms[p]:.1f}" for p in _LATENCY)]
        for name, ms in latency.items()
    ]
    bars = [(name.replace("_", " "), float(ms["p50"]), f"{ms['p50']:.1f} ms") for name, ms in latency.items()]
    size = f"The bundle: precision {export['precision']}, {export['bytes'] / 1e6:.1f} MB."
    chart = latency_drawing(bench)
    return Section(
        "What goes into the car",
        [size, *paragraphs],
        [Table(("ms", *_LATENCY), rows)],
        [Bars("Medians:", bars)],
        drawings=[chart] if chart else [],
        sources=[*source_of(records.get("verify"), "verify"), *source_of(records.get("bench"), "bench")],
    )


def _finite(value: float | None, form: str) -> str:
    """Return a figure of a bundle that may have been refused because it is no number."""
    return "?" if value is None else format(value, form)


def _hardware(machine: Mapping[str, Any]) -> str:
    """Return the name of what a latency was measured on: the GPU, where it ran on one."""
    return str((machine.get("gpu") or {}).get("name") or machine.get("cpu", "this machine"))


def _video_section(stages: Mapping[str, Any], pictures: RunPictures) -> Section | None:
    if pictures.video is None or "video" not in stages:
        return None
    video = stages["video"]
    speed = f"{counted(video['frames_out'], 'frame')}, {video['fps']:.1f} frames/s with reading and writing"
    text = f"{speed}; the file is video.mp4 in the folder of the run."
    figure = Figure(jpeg_uri(pictures.video, width_px=_SHEET_WIDTH_PX), "Frames of the video.", "Sheet of video frames")
    return Section("The drive", [text], figures=[figure], wide=True)
