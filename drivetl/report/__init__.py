"""Pages of evidence: self-contained HTML, pictures inside, nothing fetched.

A page is data first (`Page`, `Section`, `Table`, `Figure`, `Bars`), and `render_page` makes HTML of it.
"""

from __future__ import annotations

from drivetl.report.page import Bars, Figure, Page, Section, Table, jpeg_uri, render_page
from drivetl.report.run_page import RunPictures, Unfinished, run_page
from drivetl.report.training_page import training_page

__all__ = [
    "Bars",
    "Figure",
    "Page",
    "RunPictures",
    "Section",
    "Table",
    "Unfinished",
    "jpeg_uri",
    "render_page",
    "run_page",
    "training_page",
]
