"""The page of one training run: what it came to, what was chosen and by which figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drivetl.report.evidence import weight_section
from drivetl.report.learning import learning_section
from drivetl.report.page import Page
from drivetl.report.run_page import training_section
from drivetl.report.verdicts import verdicts

__all__ = ["training_page"]


def training_page(
    result: Mapping[str, Any],
    settings: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    *,
    weight_curve: Sequence[Mapping[str, Any]] = (),
    learning_curve: Mapping[str, Any] | None = None,
) -> Page:
    """Return the page of what ``drivetl train`` did.

    Args:
        result: its ``result.json``.
        settings: the section ``train`` of its ``config.yaml``.
        log: the lines of its training log.
        weight_curve: its ``weight_curve.json``; empty where the share of the new weights was given.
        learning_curve: its ``learning_curve.json``, where it trained on several numbers of pictures.
    """
    sections = [
        training_section({"train": result}, log, {}),
        weight_section(weight_curve) if weight_curve else None,
        learning_section(learning_curve) if learning_curve else None,
    ]
    weights, data = Path(str(settings["weights"])).stem, Path(str(settings["data"])).name
    return Page(
        title=f"{weights} adapted to {data}",
        lead="What the training came to, and by which figures its weights were chosen. On pictures that chose nothing "
        "they are measured with drivetl evaluate.",
        highlights=[*_choice(weight_curve), (f"{result['seconds']:.0f} s", "the choice of the weights included")],
        sections=[section for section in sections if section is not None],
        verdicts=verdicts({}, log, weight_curve),
    )


def _choice(points: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return what was chosen and what it gives on the pictures that chose."""
    chosen = next((point for point in points if point.get("chosen")), None)
    start = next((point for point in points if point["share"] == 0), None)
    if chosen is None or start is None:
        return []
    found = [(f"{chosen['share']:.0%}", "of the new weights were taken")]
    for name, of in (("target", "the target's pictures that chose"), ("retention", "the source pictures that chose")):
        if chosen.get(name) is not None and start.get(name) is not None:
            found.append((f"{start[name]:.3f} → {chosen[name]:.3f}", f"mAP50-95 on {of}, before → after"))
    return found
