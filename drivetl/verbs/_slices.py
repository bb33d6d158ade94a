"""The tables of ``drivetl evaluate --slices``, ``--errors`` and ``--agreement``."""

from __future__ import annotations

from typing import Any

from drivetl.verbs._options import percent

__all__ = ["agreement_lines", "error_lines", "slice_lines"]

_MOST_PAIRS = 10
# As many digits as give back the very same float32: a threshold that is rounded up loses the detection it stands for.
_FLOAT32_DIGITS = ".9g"


def slice_lines(document: dict[str, Any]) -> list[str]:
    """Return the slices by one dimension, the weakest pairs, and the weakest condition in words."""
    lines = _table(document["single"])
    sure = [entry for entry in document["pairs"] if entry["too_small"] is None]
    weakest = sorted(sure, key=lambda entry: entry["map50_95"])[:_MOST_PAIRS]
    if weakest:
        small = len(document["pairs"]) - len(sure)
        lines += ["", f"weakest pairs ({small} of {len(document['pairs'])} pairs are too small; --json has all)"]
        lines += _table(weakest)
    lines += _legend(document)
    for key, what in (("weakest", "condition"), ("weakest_boxes", "kind of boxes")):
        entry = document[key]
        if entry is not None:
            lines.append(f"weakest {what}: {_name(entry)}, mAP50-95 {entry['map50_95']:.3f} ({_against(entry)})")
    lines += [f"{d['name']}: {d['note']}" for d in document["dimensions"] if d["note"]]
    return [*lines, *document["notes"]]


def _legend(document: dict[str, Any]) -> list[str]:
    """Say what the columns of the tables mean, as far as the tables show it."""
    legend = ["to all: mAP50-95 against that of all pictures, over the classes that have a box in the slice"]
    if any(entry["too_small"] for entry in document["single"]):
        legend.append(
            f"too small: under {document['min_boxes']} boxes, or boxes in under {document['min_groups']} groups of "
            "pictures, which is too few to say something"
        )
    return legend


def _name(entry: dict[str, Any]) -> str:
    return " and ".join(f"{by} {value}" for by, value in zip(entry["by"], entry["value"], strict=True))


def _against(entry: dict[str, Any]) -> str:
    """Say what the difference to all pictures is worth."""
    chance = entry["p_value"]
    if chance is None:
        return "nothing to compare with"
    verdict = "below all pictures" if chance < 0.05 and entry["difference"] < 0 else "not surely below all pictures"
    shown = "under 0.001" if chance < 0.001 else f"{chance:.3f}"
    return f"{entry['difference']:+.3f} to all pictures, p {shown} as the lowest of several: {verdict}"


def _table(entries: list[dict[str, Any]]) -> list[str]:
    names = [_name(entry) for entry in entries]
    width = max([len("slice"), *(len(name) for name in names)])
    lines = ["", f"{'slice':<{width}}  pictures  groups   boxes  mAP50-95   95 % interval   to all       p"]
    for name, entry in zip(names, entries, strict=True):
        interval = entry["interval"]
        span = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "–"
        difference = "–" if entry["difference"] is None else f"{entry['difference']:+.3f}"
        chance = "–" if entry["p_value"] is None else f"{entry['p_value']:.3f}"
        counts = f"{entry['pictures']:>8}  {entry['groups']:>6}  {entry['boxes']:>6}"
        row = f"{name:<{width}}  {counts}  {percent(entry['map50_95']):>8}  {span:>14}  {difference:>7}  {chance:>6}"
        lines.append(row + ("   too small" if entry["too_small"] else ""))
    return lines


def error_lines(document: dict[str, Any]) -> list[str]:
    """Return kinds of errors, the commonest confusions, calibration and thresholds."""
    kinds, found = document["kinds"], document["confusion"]
    lines = ["", f"errors at confidence {document['confidence']:g} and IoU 0.5   count  share  AP50 cost"]
    for name, entry in kinds.items():
        share = "–" if entry["share"] is None else f"{entry['share']:.0%}"
        lines.append(f"{name:<38}  {entry['count']:>5}  {share:>5}  {entry['ap50_cost']:>9.3f}")
    swaps = [
        (count, f"{found['classes'][row]} taken for {found['classes'][column]}: {count}")
        for row, cells in enumerate(found["table"][:-1])
        for column, count in enumerate(cells[:-1])
        if row != column and count
    ]
    if swaps:
        lines.append("; ".join(text for _, text in sorted(swaps, key=lambda swap: -swap[0])[:3]))
    error = document["calibration"]["d_ece"]
    counted = document["calibration"]["detections"]
    lines.append(f"calibration error (D-ECE) {percent(error).strip()} over {counted} detections")
    for entry in document["thresholds"]:
        gives = entry["gives"]
        lines.append(
            f"{entry['wanted']}: no threshold gives it"
            if gives is None
            else f"{entry['wanted']}: threshold {gives['threshold']:{_FLOAT32_DIGITS}} (recall {gives['recall']:.3f}, "
            f"precision {gives['precision']:.3f}, {gives['false_alarms_per_picture']:.2f} false alarms a picture)"
        )
    if document["thresholds"]:
        lines.append(
            "AP sees every class that a box might be; the car takes the likeliest, so it gives a few false alarms less."
        )
    return lines


def agreement_lines(document: dict[str, Any]) -> list[str]:
    """Return the agreement by view, what it is worth, and the pictures with the least."""
    views = ", ".join(f"{name} {percent(value).strip()}" for name, value in document["views"].items())
    least = sorted((e for e in document["pictures"] if e["agreement"] is not None), key=lambda e: e["agreement"])[:3]
    lines = ["", f"agreement {percent(document['mean']).strip()} ({views})", document["correlation"]["sentence"]]
    if least:
        lines.append("least on " + ", ".join(f"{e['picture']} ({e['agreement']:.2f})" for e in least))
    return lines
