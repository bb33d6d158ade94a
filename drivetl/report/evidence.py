"""Sections about where a model works and where it fails, from the JSON of ``drivetl evaluate --slices --errors``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from drivetl.report.charts import Line, columns, heat, intervals, lines
from drivetl.report.page import Bars, Drawing, Section, Source, Table
from drivetl.wording import counted

__all__ = [
    "conditions_section",
    "errors_section",
    "latency_drawing",
    "learning_drawings",
    "overfitting",
    "source_of",
    "weather_section",
    "weight_section",
]

_MOST_ROWS = 40
# Of the grid of confusions: labelled classes, and others that they are taken for.
_MOST_CLASSES = 12
_MOST_BESIDE = 4
_MOST_TEXT = 6000


def source_of(stage: Mapping[str, Any] | None, name: str, *keys: str) -> list[Source]:
    """Return the command of a stage and the part of its JSON below some keys."""
    if stage is None:
        return []
    part = stage.get("result", {})
    for key in keys:
        part = part.get(key, {})
    text = json.dumps(part, ensure_ascii=False)
    where = " → ".join((f"{name}.json", "result", *keys))
    note = f"\n… {len(text) - _MOST_TEXT} more characters in {where}" if len(text) > _MOST_TEXT else f"\n({where})"
    return [Source(shlex.join(map(str, stage.get("command", []))), text[:_MOST_TEXT] + note)]


def conditions_section(slices: Mapping[str, Any], sources: Sequence[Source]) -> Section:
    """Show accuracy by condition with intervals, the weakest one in words, and the weakest pairs."""
    # What is (nearly) the same everywhere cuts nothing, and its row would only repeat the mean.
    alike = [d for d in slices["dimensions"] if len(d["values"]) == 1]
    named = {d["name"] for d in alike}
    told = [entry for entry in slices["single"] if entry["by"][0] not in named]
    single = [entry for entry in told if entry["map50_95"] is not None]
    empty = [entry for entry in told if entry["map50_95"] is None]
    rows = [
        (f"{entry['by'][0]}: {entry['value'][0]}", entry["map50_95"], entry["interval"], _note(entry))
        for entry in single
    ]
    faint = [entry["too_small"] is not None for entry in single]
    chart = intervals([(*row, pale) for row, pale in zip(rows, faint, strict=True)][:_MOST_ROWS], x="mAP50-95")
    caption = (
        "mAP50-95 with 95 % intervals over groups of pictures; at the right the boxes. Faint: too small to say much; "
        "of fewer than 6 groups there is no interval."
    )
    if len(rows) > _MOST_ROWS:
        caption += f" {len(rows) - _MOST_ROWS} more rows are not drawn."
    paragraphs = [text for key in ("weakest", "weakest_boxes") if (text := _weakest(slices.get(key), key))]
    if empty:
        names = ", ".join(f"{entry['by'][0]} {entry['value'][0]}" for entry in empty)
        paragraphs.append(f"Without a box, so that nothing can be said: {names}.")
    paragraphs += [f"{d['name']}: {d['note']}" for d in slices["dimensions"] if d["note"] and d["name"] not in named]
    if alike:
        values = ", ".join(f"{d['name']} {d['values'][0]}" for d in alike)
        paragraphs.append(f"Too much alike to compare: {values}.")
    sure = sorted((e for e in slices["pairs"] if e["too_small"] is None), key=lambda e: e["map50_95"])[:10]
    small = sum(entry["too_small"] is not None for entry in slices["pairs"])
    tables = []
    if sure:
        body = [
            (" and ".join(f"{b} {v}" for b, v in zip(e["by"], e["value"], strict=True)), str(e["boxes"]), _ap(e))
            for e in sure
        ]
        paragraphs.append(f"The weakest pairs of conditions; {small} other pairs are too small to say something.")
        tables.append(Table(("pair", "boxes", "mAP50-95 (95 %)"), body))
    return Section(
        "Where it works and where it fails",
        paragraphs,
        tables,
        drawings=[Drawing(chart, caption)] if rows else [],
        sources=sources,
        wide=True,
    )


def _note(entry: Mapping[str, Any]) -> str:
    return counted(entry["boxes"], "box")


def _ap(entry: Mapping[str, Any]) -> str:
    span = entry["interval"]
    return f"{entry['map50_95']:.3f}" + (f" ({span[0]:.3f} to {span[1]:.3f})" if span else "")


def _weakest(entry: Mapping[str, Any] | None, key: str) -> str | None:
    if entry is None:
        return None
    what = "condition" if key == "weakest" else "kind of boxes"
    sure = entry["p_value"] is not None and entry["p_value"] < 0.05 and entry["difference"] < 0
    verdict = "surely below" if sure else "not surely below"
    weakest = (
        f"Weakest {what}: {entry['by'][0]} {entry['value'][0]}, mAP50-95 {_ap(entry)}, {verdict} that of all pictures"
    )
    if entry["p_value"] is None:
        return f"{weakest}."
    chance = "under 0.001" if entry["p_value"] < 0.001 else f"{entry['p_value']:.3f}"
    return f"{weakest} (p {chance}, as the lowest of several)."


def errors_section(errors: Mapping[str, Any], sources: Sequence[Source]) -> Section:
    """Show kinds of errors, confusion, precision over recall, and the reliability of confidences."""
    kinds = errors["kinds"]
    rows = [(name, float(entry["count"]), f"{entry['count']}") for name, entry in kinds.items()]
    bars = [Bars(f"Errors by kind at confidence {errors['confidence']:g} (after TIDE):", rows)]
    costs = [(name, f"{entry['count']}", f"{entry['ap50_cost']:.3f}") for name, entry in kinds.items()]
    tables = [Table(("kind", "count", "AP50 that mending it gives"), costs)]
    drawings = []
    curves = errors["curves"]
    if "all" in curves:
        points = list(zip(curves["recall"], curves["all"]["precision"], strict=True))
        chart = lines([Line("", points)], x="recall", y="precision", x_range=(0, 1), y_range=(0, 1))
        drawings.append(Drawing(chart, "Precision over recall, all classes together, at IoU 0.5."))
    bins = [b for b in errors["calibration"]["bins"] if b["detections"]]
    if bins:
        reached = [(b["confidence"], b["precision"]) for b in bins]
        ideal = Line("a confidence worth its word", [(0, 0), (1, 1)], "faint")
        chart = lines(
            [ideal, Line("this model", reached, "a", dots=True)],
            x="confidence",
            y="share that is right",
            x_range=(0, 1),
            y_range=(0, 1),
        )
        error = errors["calibration"]["d_ece"]
        drawings.append(Drawing(chart, f"Reliability: calibration error (D-ECE) {error:.3f}."))
    drawings.append(_confusion(errors["confusion"]))
    paragraphs = [_threshold(entry) for entry in errors.get("thresholds", ())]
    return Section("What goes wrong", paragraphs, tables, bars, drawings=drawings, sources=sources)


def _confusion(found: Mapping[str, Any]) -> Drawing:
    """Draw the classes with the most boxes, and everything that they are taken for, so that each row adds up to 1."""
    classes, table = found["classes"], found["table"]
    labelled = [i for i, row in enumerate(table[:-1]) if sum(row)]
    kept = sorted(sorted(labelled, key=lambda i: -sum(table[i]))[:_MOST_CLASSES])
    taken = {j: sum(table[i][j] for i in kept) for j in range(len(classes)) if j not in kept}
    beside = sorted((j for j, count in taken.items() if count), key=lambda j: -taken[j])
    shown, rest = [*kept, *beside[:_MOST_BESIDE]], beside[_MOST_BESIDE:]
    cells = []
    for row in (table[i] for i in kept):
        counts = [row[j] for j in shown] + [sum(row[j] for j in rest)] * bool(rest)
        cells.append([count / sum(row) if count else None for count in counts] + [row[-1] / sum(row)])
    names = [*(classes[j] for j in shown), *["other"] * bool(rest), "missed"]
    caption = "Rows: labelled classes; columns: what they are taken for, as a share; last column: not found."
    if len(labelled) > len(kept):
        caption += f" Left out: {len(labelled) - len(kept)} labelled classes with fewer boxes."
    if rest:
        caption += f" Other: {len(rest)} more classes."
    return Drawing(heat([classes[i] for i in kept], names, cells), caption, wide=True)


def _threshold(entry: Mapping[str, Any]) -> str:
    gives = entry["gives"]
    if gives is None:
        return f"{entry['wanted']}: no threshold gives it."
    return (
        f"{entry['wanted']}: threshold {gives['threshold']:.9g} gives recall {gives['recall']:.3f}, precision "
        f"{gives['precision']:.3f} and {gives['false_alarms_per_picture']:.2f} false alarms a picture."
    )


def weather_section(document: Mapping[str, Any], sources: Sequence[Source]) -> Section:
    """Show the grid of conditions and severities."""
    entries = sorted(document["conditions"].items(), key=lambda item: item[1]["map50_95"] or 0.0)
    levels = list(entries[0][1]["severities"])
    cells = [[entry["severities"][level]["map50_95"] for level in levels] for _, entry in entries]
    kept = "" if document["rpc"] is None else f", rPC {document['rpc']:.1%}"
    clean, mpc = ("–" if document[name] is None else f"{document[name]:.3f}" for name in ("clean", "mpc"))
    caption = f"mAP50-95 by condition (weakest first) and severity; clean {clean}, mPC {mpc}{kept}."
    chart = heat([name for name, _ in entries], levels, cells)
    return Section("Under simulated weather", drawings=[Drawing(chart, caption, wide=True)], sources=sources)


def weight_section(points: Sequence[Mapping[str, Any]]) -> Section:
    """Show what mixing the adapted weights with the start gives: the target against what is kept of the source.

    Args:
        points: ``weight_curve.json``: share of the adapted weights, target, retention, weather, chosen.
    """
    target = [(float(p["share"]), float(p["target"])) for p in points if p["target"] is not None]
    kept = [(float(p["share"]), float(p["retention"])) for p in points if p.get("retention") is not None]
    chosen = next((float(p["share"]) for p in points if p.get("chosen")), None)
    weather = [(float(p["share"]), float(p["weather"])) for p in points if p.get("weather") is not None]
    series = [Line("target pictures", target, "a", dots=True), Line("source pictures", kept, "b", dots=True)]
    if weather:
        series.append(Line("target pictures in weather", weather, "c", dots=True))
    mark = None if chosen is None else (chosen, "chosen")
    chart = lines(series, x="share of the adapted weights", y="mAP50-95", x_range=(0, 1), mark=mark)
    source = Source("weight_curve.json in the run's folder", json.dumps(list(points)))
    return Section("Between the start and the adapted weights", drawings=[Drawing(chart, "WiSE-FT.")], sources=[source])


def learning_drawings(log: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """Draw loss and accuracy over the epochs."""

    series = [
        [(float(line["epoch"]), value) for line in log if (value := _loss(line, side)) is not None]
        for side in ("train", "val")
    ]
    drawings = []
    if any(len(points) > 1 for points in series):
        named = [Line("training loss", series[0], "a"), Line("validation loss", series[1], "b")]
        drawings.append(Drawing(lines(named, x="epoch", y="loss"), overfitting(log)))
    key = "metrics/mAP50-95(B)"
    scores = [(float(line["epoch"]), float(line[key])) for line in log if line.get(key) is not None]
    if len(scores) > 1:
        chart = lines([Line("", scores, "c", dots=True)], x="epoch", y="mAP50-95")
        drawings.append(Drawing(chart, "mAP50-95 on the val pictures, by the trainer's own validator."))
    return drawings


def _loss(line: Mapping[str, Any], side: str) -> float | None:
    """Return the sum of the three losses of an epoch; None where one is missing."""
    values = [line.get(f"{side}/{part}_loss") for part in ("box", "cls", "dfl")]
    known = [float(value) for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def overfitting(log: Sequence[Mapping[str, Any]]) -> str:
    """Say whether the training overfitted, had not finished, or neither, from the two losses."""
    pairs = []
    for line in log:
        sides = [_loss(line, side) for side in ("train", "val")]
        if sides[0] is not None and sides[1] is not None:
            pairs.append((int(line["epoch"]), sides[0], sides[1]))
    if len(pairs) < 3:
        return "Too few epochs with both losses to say whether it overfitted."
    epoch, _, lowest = min(pairs, key=lambda pair: pair[2])
    _, train, val = pairs[-1]
    gap = f"Gap between validation and training loss at the end: {val - train:+.2f}."
    if val > 1.02 * lowest and train < pairs[0][1]:
        return f"{gap} Overfitting: the validation loss was lowest after epoch {epoch} and has risen since."
    if epoch == pairs[-1][0] and lowest < 0.99 * pairs[-2][2]:
        return f"{gap} Not finished: the validation loss was still falling in the last epoch."
    return f"{gap} No sign of overfitting."


def latency_drawing(bench: Mapping[str, Any]) -> Drawing | None:
    """Draw the histogram of latencies where the measurement kept one (``histogram``: edges_ms, counts)."""
    histogram = bench.get("histogram")
    if not histogram:
        return None
    edges, counts = list(histogram["edges_ms"]), list(histogram["counts"])
    budget, beyond = bench.get("budget_ms"), ""
    if len(counts) > 2 and edges[-1] - edges[-2] > 3 * (edges[-2] - edges[-3]):
        # The last bin takes all that is slower than the 99th percentile; to scale, it would squeeze the others.
        beyond = f"; {counts[-1]} more, up to {edges[-1]:.1f} ms, are not drawn"
        edges, counts = edges[:-1], counts[:-1]
    # A budget far off would squeeze them as well.
    mark = budget if budget is not None and abs(budget - edges[0]) <= 4 * (edges[-1] - edges[0]) else None
    chart = columns(edges, counts, x="end to end, ms", y="frames", mark=mark)
    words = "" if budget is None else f"; the budget of {budget:g} ms lies outside the drawing"
    words = words if mark is None else f"; the dashed line is the budget of {budget:g} ms"
    return Drawing(chart, f"Latency of {sum(counts)} frames{beyond}{words}.")
