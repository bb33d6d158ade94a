"""What a number of labelled pictures gives, from the ``learning_curve.json`` of ``drivetl train --learning-curve``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from drivetl.report.charts import Line, lines
from drivetl.report.page import Drawing, Section, Source, Table

__all__ = ["learning_section"]

_STEPS = 60


def learning_section(curve: Mapping[str, Any]) -> Section:
    """Show accuracy over the number of labelled pictures, the law through it, and what more pictures would give.

    Args:
        curve: the document, with ``points``, ``law``, ``extrapolation``, ``split``, ``test_pictures``, ``groups`` and
            ``notes``.
    """
    points, ahead = curve["points"], curve["extrapolation"]
    most = max(float(point["pictures"]) for point in points)
    # Twice the measured is drawn; what lies farther stands in the table and would squeeze the measured points.
    near = [entry for entry in ahead if entry["pictures"] <= 2 * most]
    series = [Line("measured", _places(points), "a", dots=True, spans=_spans(points))]
    if curve["law"] is not None:
        first = min(float(point["pictures"]) for point in points if point["pictures"])
        end = max([most, *(float(entry["pictures"]) for entry in near)])
        at = [first + (end - first) * step / _STEPS for step in range(_STEPS + 1)]
        a, b, c = (float(curve["law"][name]) for name in "abc")
        series.append(Line("fitted law", [(n, c - a * n**-b) for n in at], "faint"))
        series.append(Line("expected", _places(near), "b", dots=True, spans=_spans(near)))
    chart = lines(series, x="labelled pictures", y="mAP50-95", mark=(most, "measured up to here") if near else None)
    caption = (
        f"mAP50-95 on {curve['test_pictures']} pictures of {curve['split']} with 95 % intervals over {curve['groups']} "
        "groups of pictures."
    )
    rows = [
        (f"{p['pictures']}" if p["pictures"] else "none (zero-shot)", _with_span(p, "map50_95", ""), _gain(p))
        for p in points
    ]
    rows += [(f"{e['pictures']:g}, expected", _with_span(e, "map50_95", ""), "") for e in ahead]
    table = Table(("labelled pictures", "mAP50-95 (95 %)", "gain over zero-shot (95 %)"), rows)
    return Section(
        "How much labelling is enough",
        [str(note) for note in curve["notes"]],
        [table],
        drawings=[Drawing(chart, caption)],
        sources=[Source("learning_curve.json in the folder of the training", json.dumps(dict(curve)))],
    )


def _places(entries: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(float(entry["pictures"]), float(entry["map50_95"])) for entry in entries]


def _spans(entries: Sequence[Mapping[str, Any]]) -> list[tuple[float, float] | None]:
    return [None if (span := entry["interval"]) is None else (float(span[0]), float(span[1])) for entry in entries]


def _gain(point: Mapping[str, Any]) -> str:
    return "" if point["gain"] is None else _with_span(point, "gain", "+")


def _with_span(entry: Mapping[str, Any], name: str, sign: str) -> str:
    span = entry["interval" if name == "map50_95" else f"{name}_interval"]
    ends = "" if span is None else f" ({span[0]:{sign}.3f} to {span[1]:{sign}.3f})"
    return f"{entry[name]:{sign}.3f}{ends}"
