"""A forest plot: what each way to train gained or lost, with its interval, on every set of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Difference", "Panel", "draw_forest"]

_GAIN, _LOSS, _OPEN = "#1b7f4d", "#b3392f", "#5f6b76"


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of AP in points, None where no class has boxes, and the ends of its 95 % interval."""

    name: str
    points: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Panel:
    """The differences on one set of pictures; every panel of a plot has the same names in the same order."""

    title: str
    differences: Sequence[Difference]


def draw_forest(panels: Sequence[Panel], *, title: str, unit: str) -> bytes:
    """Return the plot as a PNG: a panel beside the other, a row for each difference, zero as a line.

    An interval that lies on one side of zero is green or red, one that does not is grey.

    Args:
        panels: what to draw, at least one, each with at least one difference.
        title: above all panels.
        unit: what the differences are, below each panel.
    """
    from matplotlib.figure import Figure

    rows = max(len(panel.differences) for panel in panels)
    figure = Figure(figsize=(4.6 * len(panels) + 1.6, 0.46 * rows + 1.5), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, axis in zip(panels, axes, strict=True):
        axis.axvline(0, color="#20262c", linewidth=1)
        for row, difference in enumerate(panel.differences):
            if difference.points is None:
                continue
            low, high = difference.interval or (difference.points, difference.points)
            colour = _GAIN if low > 0 else _LOSS if high < 0 else _OPEN
            axis.plot([low, high], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
            axis.plot([difference.points], [row], "o", color=colour, markersize=7)
            words = f"{difference.points:+.1f}".replace("-", "−")
            axis.annotate(words, (difference.points, row), (0, 7), textcoords="offset points", ha="center")
        axis.set_yticks(range(len(panel.differences)), [difference.name for difference in panel.differences])
        axis.set_ylim(rows - 0.5, -0.7)
        axis.set_title(panel.title, fontsize=11)
        axis.set_xlabel(unit)
        axis.grid(axis="x", color="#e3e7ea")
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    figure.suptitle(title, fontsize=12)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
