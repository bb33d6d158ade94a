"""Unpack a ZIP or TAR archive that came from somewhere else, without trusting it."""

from __future__ import annotations

import errno
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from drivetl.errors import DatasetError, quoted
from drivetl.progress import Progress, silent

__all__ = ["unpack"]

_CHUNK = 1 << 20
# Pictures hardly shrink and labels shrink tenfold; a bomb shrinks a thousandfold.
_MAX_RATIO = 100
_FREE_BYTES = 64 << 20
# `zipfile` and `tarfile` let through what the decompressors and their own decoding of names and numbers raise.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    is_folder: bool
    is_file: bool
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, progress: Progress = silent) -> None:
    """Unpack ``archive`` into the existing, empty ``folder``.

    All members are looked at before the first byte is written. Refused are names that lead out of the folder, links,
    devices, names that stand twice, and archives that unpack to more than a hundred times their size.

    Raises:
        DatasetError: not an archive, damaged, or refused; the message names the member.
        OSError: the folder cannot be written (the caller's `atomic_dir` turns it into an `OutputError`).
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                members = list(_zip_members(zipped))
                _unpack(archive, members, folder, progress)
        else:
            with tarfile.open(archive) as tar:
                members = list(_tar_members(tar))
                _unpack(archive, members, folder, progress)
                _read_to_the_end(archive, tar)
    except _DAMAGED as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        # gzip and bz2 report damage as an OSError without a number, and zipfile follows a damaged offset to a place
        # that no file has; all else comes from the system.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{quoted(archive)} is no ZIP or TAR archive, or is damaged ({quoted(error)}); fetch it again")


def _zip_members(zipped: zipfile.ZipFile) -> Iterator[_Member]:
    for info in zipped.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        folder = info.is_dir()
        yield _Member(
            info.filename, folder, not folder and kind in (0, stat.S_IFREG), info.file_size, partial(zipped.open, info)
        )


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        yield _Member(
            info.name, info.isdir(), info.isreg() and not info.issparse(), info.size, partial(tar.extractfile, info)
        )


def _read_to_the_end(archive: Path, tar: tarfile.TarFile) -> None:
    """Read what follows the last member: gzip and xz keep the checksum of the whole stream behind it."""
    left = _limit_bytes(archive)
    while tar.fileobj is not None and (chunk := tar.fileobj.read(_CHUNK)):
        left -= len(chunk)
        if left < 0:
            raise DatasetError(f"{quoted(archive)} goes on without end after its last member; it is refused")


def _limit_bytes(archive: Path) -> int:
    return _FREE_BYTES + _MAX_RATIO * archive.stat().st_size


def _unpack(archive: Path, members: Sequence[_Member], folder: Path, progress: Progress) -> None:
    places = _places(archive, members)
    total = sum(member.size for member in members)
    if total > _limit_bytes(archive):
        raise DatasetError(f"{quoted(archive)} would unpack to {total} bytes, a hundred times its size; it is refused")
    for done, (place, member) in enumerate(places.items(), start=1):
        target = folder / place
        if member.is_folder:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(archive, member, target)
        progress("unpacking", done, len(places))


def _places(archive: Path, members: Sequence[_Member]) -> dict[PurePosixPath, _Member]:
    """Return where each member goes, once every one of them has been found acceptable."""
    places: dict[PurePosixPath, _Member] = {}
    for member in members:
        place = PurePosixPath(member.name)
        if place.is_absolute() or ".." in place.parts or "\\" in member.name or ":" in member.name:
            raise DatasetError(
                f"{quoted(archive)}: the member {quoted(member.name)} points outside the target; it is refused"
            )
        if not member.is_folder and not member.is_file:
            raise DatasetError(
                f"{quoted(archive)}: the member {quoted(member.name)} is a link or a device; it is refused"
            )
        if place in places and not member.is_folder:
            raise DatasetError(f"{quoted(archive)}: the member {quoted(member.name)} stands twice; it is refused")
        places[place] = member
    files = {place for place, member in places.items() if member.is_file}
    for place in places:
        if blocked := files.intersection(place.parents):
            raise DatasetError(
                f"{quoted(archive)}: the member {quoted(blocked.pop())} is a file and a folder; it is refused"
            )
    return places


def _write(archive: Path, member: _Member, target: Path) -> None:
    """Write one member, and no more than it said it has: the header of an archive may lie."""
    stream = member.open()
    left = member.size
    with target.open("xb") as handle:
        while stream is not None and (chunk := stream.read(_CHUNK)):
            left -= len(chunk)
            if left < 0:
                raise DatasetError(
                    f"{quoted(archive)}: the member {quoted(member.name)} is larger than it says; it is refused"
                )
            handle.write(chunk)
    if left:
        raise DatasetError(
            f"{quoted(archive)}: the member {quoted(member.name)} ends {left} bytes early; fetch it again"
        )
