"""Write a contact sheet. Weather, scenes and data share it, so that a picture that cannot be encoded is one error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import OutputError, quoted
from drivetl.files import atomic_file, refuse_existing

__all__ = ["check_sheet", "save_sheet"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_BEST_QUALITY = 92
_LOWEST_QUALITY = 30


def save_sheet(
    sheet_bgr: NDArray[np.uint8], out: Path, *, limit_bytes: int | None = None, overwrite: bool = False
) -> None:
    """Write a contact sheet as PNG, JPEG or WebP, whole or not at all.

    Args:
        sheet_bgr: ``(height, width, 3)`` uint8.
        out: the file; its ending says the format.
        limit_bytes: the most that the file may have; a JPEG's quality falls until it fits.
        overwrite: replace what stands at ``out``.

    Raises:
        OutputError: another ending, the file exists and ``overwrite`` is false, the sheet is too large for the format
            (65,535 pixels a side for JPEG, 16,383 for WebP) or for ``limit_bytes`` at any acceptable quality, or it
            cannot be written.
    """
    check_sheet(out, overwrite=overwrite)
    with atomic_file(out, overwrite=overwrite) as temporary:
        temporary.write_bytes(_fitting(sheet_bgr, out, out.suffix.lower(), limit_bytes))


def check_sheet(out: Path, *, overwrite: bool) -> None:
    """Find before the work what `save_sheet` would refuse after it.

    Raises:
        OutputError: another ending, or the file exists and ``overwrite`` is false.
    """
    if out.suffix.lower() not in _ENDINGS:
        raise OutputError(f"cannot tell the format of {quoted(out)}; end --out with {', '.join(_ENDINGS)}")
    refuse_existing(out, overwrite=overwrite)


def _fitting(sheet_bgr: NDArray[np.uint8], out: Path, ending: str, limit_bytes: int | None) -> bytes:
    jpeg = ending in (".jpg", ".jpeg")
    for quality in range(_BEST_QUALITY, _LOWEST_QUALITY - 1, -4) if jpeg else (_BEST_QUALITY,):
        data = _encoded(sheet_bgr, out, ending, [cv2.IMWRITE_JPEG_QUALITY, quality] if jpeg else [])
        if limit_bytes is None or len(data) <= limit_bytes:
            return data
    if jpeg:
        raise OutputError(f"the sheet does not fit into {limit_bytes} bytes; make its cells smaller with --cell-width")
    raise OutputError(f"the sheet has {len(data)} bytes, more than {limit_bytes}; write it as .jpg")


def _encoded(sheet_bgr: NDArray[np.uint8], out: Path, ending: str, settings: list[int]) -> bytes:
    """Return the file. OpenCV says that it cannot in two ways: by an exception, and by its first answer."""
    height, width = sheet_bgr.shape[:2]
    failed = f"cannot encode the sheet of {width} x {height} pixels as {quoted(out.name)}"
    remedy = "use .png" if ending != ".png" else "make it smaller"
    try:
        encoded, data = cv2.imencode(ending, sheet_bgr, settings)
    except cv2.error as error:
        raise OutputError(f"{failed}: {error.err}; {remedy}") from error
    if not encoded:
        raise OutputError(f"{failed}; {remedy}")
    return data.tobytes()
