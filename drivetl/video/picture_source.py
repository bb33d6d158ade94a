"""Pictures as the frames of a video: those of a folder, or those that a text file lists."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivetl.data.pictures import UNREAD_ENDINGS, decode_picture, is_picture
from drivetl.errors import ImageError, VideoError, encodable, printable_source, quoted
from drivetl.files import read_limited
from drivetl.video.source_info import SourceInfo

__all__ = ["LIST_ENDING", "PictureSource", "pictures_in", "pictures_listed"]

LIST_ENDING = ".txt"

_MOST_LIST_BYTES = 64_000_000


def pictures_in(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the pictures of a folder in natural order (``frame2`` before ``frame10``), and what to say about others.

    Raises:
        VideoError: it cannot be read or holds no picture.
    """
    try:
        files = [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise VideoError(f"cannot read the folder {quoted(folder)}: {error.strerror or error}") from error
    pictures = sorted((path for path in files if is_picture(path)), key=_natural)
    unread = [ending for path in files if (ending := path.suffix.lower()) in UNREAD_ENDINGS]
    kinds = ", ".join(sorted(set(unread)))
    if not pictures:
        remedy = f"convert its {kinds} to PNG or JPEG" if unread else "give the folder that holds them directly"
        raise VideoError(f"the folder {quoted(folder)} holds no picture (jpg, jpeg, png, bmp, webp); {remedy}")
    note = (
        f"pictures left out of {quoted(folder)}, because drivetl does not read their kind: {len(unread)} ({kinds}); "
        f"convert them to PNG or JPEG"
    )
    return pictures, (note,) if unread else ()


def pictures_listed(listing: Path) -> list[Path]:
    """Return the pictures that a text file names, in its order.

    Raises:
        VideoError: it is no list, names a picture that is not there, or none.
    """
    try:
        lines = read_limited(listing, _MOST_LIST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise VideoError(f"{quoted(listing)} is no list of pictures: {error}; give one path a line") from error
    pictures = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if "://" in text:
            raise VideoError(
                f"{quoted(listing)} line {number} names {quoted(printable_source(text))}, and a list holds paths of "
                f"pictures; give each stream a run of its own"
            )
        picture = listing.parent / text
        try:
            there = picture.is_file()
        except OSError:  # such as a name that is too long
            there = False
        if not there:
            raise VideoError(
                f"{quoted(listing)} line {number}: there is no picture "
                f"{quoted(listing.parent / printable_source(text))}; paths are relative to it"
            )
        pictures.append(picture)
    if not pictures:
        raise VideoError(f"{quoted(listing)} names no picture; give one path a line")
    return pictures


class PictureSource:
    """Pictures as the frames of a video."""

    def __init__(
        self,
        place: Path,
        pictures: list[Path],
        fps: float,
        notes: tuple[str, ...] = (),
        allow_unreadable: bool = False,
    ) -> None:
        """Take pictures, none of which is opened yet.

        Args:
            place: the folder or list that they come from.
            pictures: in the order in which they play.
            fps: the rate at which they play.
            notes: what to say about others.
            allow_unreadable: leave out those that cannot be read, count and note them, instead of ending there.
        """
        self._pictures, self._allow_unreadable = pictures, allow_unreadable
        self.dropped = 0
        self.captured_s = 0.0
        self.shown_s: float | None = None
        self.info = SourceInfo("pictures", encodable(str(place)), fps, len(pictures), notes)
        self._notes = notes
        self._first_error: ImageError | None = None

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        first: int | None = None
        for index, path in enumerate(self._pictures):
            try:
                image_bgr = decode_picture(path).copy()
            except ImageError as error:
                if not self._allow_unreadable:
                    raise ImageError(f"{error}. With --allow-truncated such pictures are left out") from error
                self._leave_out(error)
                continue
            first = index if first is None else first
            if self.info.unreadable:  # the others keep their times
                self.shown_s = (index - first) / self.info.fps
            self.captured_s = time.perf_counter()
            yield image_bgr
        if first is None and self._first_error is not None:
            raise ImageError(
                f"none of the {len(self._pictures)} pictures can be read; the first: {self._first_error}"
            ) from self._first_error

    def _leave_out(self, error: ImageError) -> None:
        self._first_error = self._first_error or error
        count = self.info.unreadable + 1
        note = (
            f"{count} of {len(self._pictures)} pictures cannot be read and were left out; the first: "
            f"{self._first_error}"
        )
        self.info = replace(self.info, notes=(*self._notes, note), unreadable=count)

    def close(self) -> None:
        """Nothing stays open between pictures."""


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Order digits by their value; the bare name decides between equals (``1.jpg``, ``01.jpg``)."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(1, int(part)) if index % 2 else (0, part) for index, part in enumerate(parts)], path.name
