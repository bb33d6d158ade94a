"""The page without its pictures: as Markdown, as JSON, and the model card of the bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from drivetl import __version__
from drivetl.report.page import Page
from drivetl.report.run_page import Unfinished
from drivetl.wording import counted

__all__ = ["evidence_document", "markdown", "model_card"]

_MARKS = {"good": "yes", "bad": "no", "open": "open"}


def markdown(page: Page) -> str:
    """Return verdicts, paragraphs and tables of a page as Markdown."""
    out = [f"# {_plain(page.title)}", "", _plain(page.lead), ""]
    out += [f"- {_plain(value)}: {_plain(label)}" for value, label in page.highlights]
    out += ["", *(f"- {_MARKS[mark]}: {_plain(sentence)}" for mark, sentence in page.verdicts)]
    for section in page.sections:
        out += ["", f"## {_plain(section.title)}", ""]
        out += [f"{_plain(text)}\n" for text in section.paragraphs]
        for table in section.tables:
            out.append("| " + " | ".join(map(_plain, table.headings)) + " |")
            out.append("|" + " --- |" * len(table.headings))
            out += ["| " + " | ".join(map(_plain, row)) + " |" for row in table.rows]
            out.append("")
        for chart in section.bars:
            out += [_plain(chart.caption), "", *(f"- {_plain(name)}: {_plain(text)}" for name, _, text in chart.rows)]
        out += [f"- Figure: {_plain(drawing.caption)}" for drawing in section.drawings]
        out += [f"- Command: `{source.command}`" for source in section.sources]
    return "\n".join(out) + f"\n\nMade by drivetl {__version__}.\n"


def evidence_document(page: Page, stages: Mapping[str, Any], unfinished: Unfinished) -> dict[str, Any]:
    """Return verdicts and highlights, and where in the run's folder the JSON behind them lies."""
    return {
        "schema_version": 1,
        "kind": "drivetl evidence",
        "title": page.title,
        "verdicts": [{"mark": mark, "sentence": sentence} for mark, sentence in page.verdicts],
        "highlights": [{"value": value, "what": label} for value, label in page.highlights],
        "stages": {name: f"{name}.json" for name in stages},
        "missing": list(unfinished.missing),
        "refused": dict(unfinished.refused),
        "weakest": (stages.get("adapted", {}).get("slices") or {}).get("weakest"),
    }


def model_card(recipe: Mapping[str, Any], stages: Mapping[str, Any], page: Page) -> str:
    """Return the model card: intended use, data, conditions covered and not covered, limits (Mitchell et al. 2019)."""
    adapted = stages.get("adapted", {})
    slices = adapted.get("slices") or {"single": []}
    covered, thin = [], []
    for entry in slices["single"]:
        name = f"{entry['by'][0]} {entry['value'][0]}"
        if entry["too_small"] is None:
            covered.append(f"{name}: mAP50-95 {entry['map50_95']:.3f} on {counted(entry['boxes'], 'box')}")
        else:
            thin.append(f"{name}: {entry['too_small']}")
    classes = [name for name, entry in adapted.get("per_class", {}).items() if entry["boxes"]]
    untested = [name for name, entry in adapted.get("per_class", {}).items() if not entry["boxes"]]
    source = recipe.get("data") or recipe.get("scenes") or {}
    parts = [
        (
            "Model",
            [f"{recipe['name']}, from {recipe['started_from']}, input {recipe.get('input_size') or recipe['imgsz']}"],
        ),
        (
            "Intended use",
            [
                "Detection of road users in forward camera pictures of the road that it was adapted to.",
                "Not a safety function by itself: the figures below are of held-out pictures, not of a vehicle.",
            ],
        ),
        (
            "Data",
            [
                f"Adapted to: {source.get('card') or source.get('preset') or source.get('format', 'unknown')}",
                f"Measured on {counted(adapted.get('images', 0), 'picture')} of the split {adapted.get('split', '?')}",
                f"Dataset fingerprint {adapted.get('dataset_fingerprint', 'unknown')}",
            ],
        ),
        ("Classes measured", classes or ["none"]),
        ("Classes without a box in the measurement: nothing is known", untested or ["none"]),
        ("Conditions covered", covered or ["none with enough boxes to say something"]),
        ("Conditions not covered", [*thin, "every condition that is not named above"]),
        ("Verdicts", [f"{_MARKS[mark]}: {sentence}" for mark, sentence in page.verdicts]),
        (
            "Limits",
            [
                "Intervals speak of other pictures from the same source, not of other roads or cameras.",
                "Simulated weather is not weather; distances are estimates from where boxes end.",
            ],
        ),
    ]
    out = ["# Model card"]
    for title, points in parts:
        out += ["", f"## {title}", "", *(f"- {_plain(point)}" for point in points)]
    return "\n".join(out) + f"\n\nMade by drivetl {__version__}.\n"


def _plain(text: str) -> str:
    """Return words that cannot become markup in Markdown or the HTML it turns into."""
    return re.sub(r"([\\|*\[`])", r"\\\1", text.replace("\n", " ")).replace("<", "&lt;")
