"""Charts as inline SVG: no script, the page's own colours, sharp in print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

__all__ = ["Line", "columns", "heat", "intervals", "lines"]

_WIDTH, _HEIGHT = 480, 300
# Room for the figures at the axes in the larger letters of a phone, too.
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 22, 14, 42
_ROW = 26


@dataclass(frozen=True, slots=True)
class Line:
    """A series of points. ``style`` is one of the page's classes: a, b, c or faint. ``spans``: an interval a point."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "a"
    dots: bool = False
    spans: Sequence[tuple[float, float] | None] = ()


def lines(
    series: Sequence[Line],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """Draw lines over two axes.

    Args:
        series: what to draw; those without a point are left out.
        x, y: what the axes are.
        x_range, y_range: their ends; None takes those of the points.
        mark: a vertical line at this x, with a word.
    """
    shown = [line for line in series if line.points]
    xs = [point[0] for line in shown for point in line.points] or [0.0, 1.0]
    ys = [point[1] for line in shown for point in line.points] or [0.0, 1.0]
    ys += [end for line in shown for span in line.spans if span is not None for end in span]
    (x0, x1), (y0, y1) = x_range or _padded(xs, 0.0), y_range or _padded(ys, 0.06)
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(px: float, py: float) -> tuple[float, float]:
        return _LEFT + (px - x0) / (x1 - x0) * inner_w, _TOP + (y1 - py) / (y1 - y0) * inner_h

    parts = [_frame(x, y, (x0, x1), (y0, y1))]
    if mark is not None:
        place = at(mark[0], y0)[0]
        parts.append(f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        anchor = "end" if place > _WIDTH / 2 else "start"
        parts.append(_text(place + (-4 if anchor == "end" else 4), _HEIGHT - _BOTTOM - 6, mark[1], anchor))
    named = [line for line in shown if line.name]
    above = 16 * len(named)  # the legend stands above the frame, where no line can run through it
    for number, line in enumerate(named):
        row = 16 * number + 8 - above
        parts.append(f'<line class="line {line.style}" x1="{_LEFT}" x2="{_LEFT + 20}" y1="{row}" y2="{row}"/>')
        parts.append(_text(_LEFT + 26, row + 4, line.name, "start"))
    for line in shown:
        places = [at(*point) for point in line.points]
        for (px, _), span in zip(places, line.spans, strict=False):
            if span is not None:
                low, high = (at(x0, end)[1] for end in span)
                upright = f'x1="{px:.1f}" x2="{px:.1f}" y1="{low:.1f}" y2="{high:.1f}"'
                parts.append(f'<line class="span {line.style}" {upright}/>')
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
        if line.dots:
            parts += [f'<circle class="dot {line.style}" cx="{px:.1f}" cy="{py:.1f}" r="3.5"/>' for px, py in places]
    return _svg(parts, _HEIGHT, f"{y} over {x}", above=above)


def columns(edges: Sequence[float], counts: Sequence[float], *, x: str, y: str, mark: float | None = None) -> Markup:
    """Draw a histogram; ``mark`` is a vertical line, such as a budget."""
    ends = [edges[0], edges[-1], edges[-1] if mark is None else mark]
    x0, x1 = min(ends), max(ends)
    x1 = x1 if x1 > x0 else x0 + 1.0
    top = max([*counts, 1])
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = [_frame(x, y, (x0, x1), (0.0, float(top)))]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        left, right = (_LEFT + (edge - x0) / (x1 - x0) * inner_w for edge in (low, high))
        height = count / top * inner_h
        box = f'x="{left + 0.5:.1f}" y="{_TOP + inner_h - height:.1f}" height="{height:.1f}"'
        parts.append(f'<rect class="bar" {box} width="{max(right - left - 1, 1):.1f}"/>')
    if mark is not None:
        place = _LEFT + (mark - x0) / (x1 - x0) * inner_w
        parts.append(f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    return _svg(parts, _HEIGHT, f"{y} over {x}")


def intervals(rows: Sequence[tuple[str, float, tuple[float, float] | None, str, bool]], *, x: str) -> Markup:
    """Draw points with their intervals, one below the other.

    Args:
        rows: name, value, interval, note at the right, whether to draw it faint.
        x: what the values are, from 0 to 1.
    """
    left, right = 220, 96
    height = 2 * _TOP + _ROW * len(rows) + 26
    inner = 640 - left - right
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        place = left + tick * inner
        parts.append(f'<line class="grid" x1="{place}" x2="{place}" y1="{_TOP}" y2="{height - _TOP - 26}"/>')
        parts.append(_text(place, height - _TOP - 10, f"{tick:g}", "middle"))
    for number, (name, value, span, note, faint) in enumerate(rows):
        middle = _TOP + _ROW * number + _ROW / 2
        style = "faint" if faint else "a"
        parts.append(_text(left - 10, middle + 4, name if len(name) < 36 else name[:34] + "…", "end"))
        if span is not None:
            x1, x2 = (left + max(0.0, min(1.0, end)) * inner for end in span)
            parts.append(f'<line class="span {style}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{middle}" y2="{middle}"/>')
        parts.append(f'<circle class="dot {style}" cx="{left + value * inner:.1f}" cy="{middle}" r="4.5"/>')
        parts.append(_text(640 - right + 10, middle + 4, note, "start"))
    parts.append(_text(left + inner / 2, height - 6, x, "middle"))
    return _svg(parts, height, x, width=640)


def heat(names: Sequence[str], columns_: Sequence[str], cells: Sequence[Sequence[float | None]]) -> Markup:
    """Draw values from 0 to 1 as a grid of shaded cells with their figures; None stays empty."""
    left, top, cell_w, cell_h = 110, 44, max(46, min(74, 700 // max(len(columns_), 1))), 28
    width, height = left + cell_w * len(columns_) + 8, top + cell_h * len(names) + 8
    parts = []
    for column, name in enumerate(columns_):
        # A word a line: a traffic light and a traffic sign begin alike.
        words = name.split(" ", 1)
        for line, word in enumerate(reversed(words)):
            parts.append(_text(left + cell_w * (column + 0.5), top - 8 - 14 * line, word[: cell_w // 6], "middle"))
    for row, (name, values) in enumerate(zip(names, cells, strict=True)):
        y = top + cell_h * row
        parts.append(_text(left - 8, y + cell_h / 2 + 4, name[:16], "end"))
        for column, value in enumerate(values):
            if value is None:
                continue
            x = left + cell_w * column
            shade = f'class="cell" style="fill-opacity:{0.05 + 0.45 * min(max(value, 0), 1):.2f}"'
            parts.append(f'<rect {shade} x="{x + 1}" y="{y + 1}" width="{cell_w - 2}" height="{cell_h - 2}"/>')
            parts.append(_text(x + cell_w / 2, y + cell_h / 2 + 4, f"{value:.2f}", "middle"))
    return _svg(parts, height, "grid of values", width=width)


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high <= low:
        return low - 0.5, high + 0.5
    return low - share * (high - low), high + share * (high - low)


def _frame(x: str, y: str, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = []
    for step in range(5):
        share = step / 4
        across, down = _LEFT + share * inner_w, _TOP + (1 - share) * inner_h
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + inner_w}" y1="{down}" y2="{down}"/>')
        parts.append(_text(_LEFT - 6, down + 4, _tick(y_range, share), "end"))
        parts.append(_text(across, _TOP + inner_h + 16, _tick(x_range, share), "middle"))
    parts.append(_text(_LEFT + inner_w / 2, _HEIGHT - 6, x, "middle"))
    turn = f'transform="rotate(-90 12 {_TOP + inner_h / 2})"'
    parts.append(f'<text {turn} x="12" y="{_TOP + inner_h / 2}" text-anchor="middle">{escape(y)}</text>')
    return "".join(parts)


def _tick(ends: tuple[float, float], share: float) -> str:
    value, width = ends[0] + share * (ends[1] - ends[0]), ends[1] - ends[0]
    return f"{value:.0f}" if width >= 20 else f"{value:.1f}" if width >= 2 else f"{value:.2f}"


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(parts: Sequence[str], height: float, label: str, width: int = _WIDTH, above: int = 0) -> Markup:
    # Markup: every word in the parts went through _text, which escapes it.
    head = f'<svg viewBox="0 {-above} {width} {height + above:g}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(parts) + "</svg>")
