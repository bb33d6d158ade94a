"""What a page consists of, and the one template that turns it into HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from drivetl import __version__

__all__ = ["Bars", "Drawing", "Figure", "Page", "Section", "Source", "Table", "jpeg_uri", "render_page"]

_TEMPLATE = "page.html.j2"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; every column but the first is set to the right. ``strong``: rows to stand out, from 0."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar chart. ``rows``: label, value, and how the value is written; bars are scaled to the largest value."""

    caption: str
    rows: Sequence[tuple[str, float, str]]

    @property
    def scale(self) -> float:
        """The largest value; 1 where all are 0."""
        return max((value for _, value, _ in self.rows), default=0.0) or 1.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture. ``uri`` is a data URI; see `jpeg_uri`. ``alt`` says what it shows to those who cannot see it."""

    uri: str
    caption: str
    alt: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart from `drivetl.report.charts`, with the sentence below it. ``wide``: a row of its own."""

    svg: Markup
    caption: str
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """What a section was made from: a command, and the JSON that it gave (shortened where it is long)."""

    command: str
    document: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, shown in this order: title, paragraphs, tables, bars, drawings, figures, sources."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    bars: Sequence[Bars] = ()
    figures: Sequence[Figure] = ()
    wide: bool = False
    drawings: Sequence[Drawing] = ()
    sources: Sequence[Source] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page. ``highlights``: a figure and what it is, set large at the top. ``verdicts``: mark, sentence.

    A mark is ``good``, ``bad`` or ``open``.
    """

    title: str
    lead: str
    highlights: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    verdicts: Sequence[tuple[str, str]] = ()


def jpeg_uri(image_bgr: NDArray[np.uint8], *, width_px: int | None = None, quality: int = 82) -> str:
    """Return a picture as a ``data:`` URI.

    Args:
        image_bgr: uint8 (height, width, 3).
        width_px: scale it down to this width, if it is wider.
        quality: of the JPEG, 1 to 100.
    """
    height, width = image_bgr.shape[:2]
    if width_px is not None and width > width_px:
        size_wh = (width_px, max(1, round(height * width_px / width)))
        image_bgr = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def render_page(page: Page) -> str:
    """Return the page as one HTML document that loads nothing from anywhere; all text in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(page=page, version=__version__)
