"""Option types that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from drivetl.errors import ConfigError, ImageError, quoted

__all__ = [
    "DeviceOption",
    "ImgszOption",
    "ThreadsOption",
    "percent",
    "refuse_without",
    "require_picture",
    "score_lines",
    "size_from",
]

DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N; of a bundle also tensorrt.")]
ImgszOption = Annotated[
    str | None, typer.Option("--imgsz", help="Input size in pixels: 640, or 384x640 (height x width).")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads; default: library's choice.")
]


def require_picture(path: Path) -> None:
    """Say of a picture that was named on the command line what helps there: it is nobody's dataset.

    Raises:
        ImageError: it is not there.
    """
    if not path.exists():
        raise ImageError(f"the picture {quoted(path)} does not exist; correct the path")


def refuse_without(option: str, given: bool, others: Mapping[str, object]) -> None:
    """Refuse options that have no effect unless another one is given.

    Args:
        option: that other one.
        given: whether it is.
        others: value by name; None where it was not given.

    Raises:
        ConfigError: one of them was given, and the other was not.
    """
    idle = [name for name, value in others.items() if value is not None]
    if idle and not given:
        raise ConfigError(f"{' and '.join(idle)} without {option} has no effect; give {option} too, or leave it out")


def size_from(text: str | None, option: str = "--imgsz") -> tuple[int, int] | None:
    """Read ``640`` or ``384x640`` as height and width; ``option`` is what the error names.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(re.fullmatch(r"0*[1-9][0-9]{0,5}", part) for part in parts):
        raise ConfigError(f"{option} takes 640, or 384x640 for height x width, not {quoted(text)}")
    return int(parts[0]), int(parts[-1])


def percent(value: float | None) -> str:
    """Return an average precision as people read it: three decimals, or a dash where there is nothing to measure."""
    return "  –  " if value is None else f"{value:.3f}"


def score_lines(document: dict[str, object]) -> list[str]:
    """Return the table of an evaluation document: one line a class, most boxes first."""
    per_class = document["per_class"]
    assert isinstance(per_class, dict)
    rows = [(name, entry) for name, entry in per_class.items() if entry["boxes"]]
    width = max([len("all classes"), *(len(name) for name, _ in rows)])
    lines = [f"{'class':<{width}}  boxes  mAP50-95  mAP50"]
    for name, entry in sorted(rows, key=lambda row: -row[1]["boxes"]):
        figures = f"{percent(entry['map50_95']):>8}  {percent(entry['map50']):>5}"
        lines.append(f"{name:<{width}}  {entry['boxes']:>5}  {figures}")
    total = f"{percent(document['map50_95']):>8}  {percent(document['map50']):>5}"  # type: ignore[arg-type]
    lines.append(f"{'all classes':<{width}}  {document['boxes']:>5}  {total}")
    return lines
