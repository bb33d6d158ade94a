"""``data get``: fetch and unpack the datasets that allow it, and say where to register for the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from drivetl.data.archives import unpack
from drivetl.data.cards import DatasetCard, Download, card_names
from drivetl.data.download import fetch, without_credentials
from drivetl.data.readers.common import field_of, load_json
from drivetl.errors import DatasetError, DownloadError, quoted
from drivetl.files import atomic_dir, expanded, json_bytes, refuse_existing_dir, sha256_file, writing
from drivetl.progress import Progress, silent

__all__ = ["GetResult", "data_cache", "get_dataset"]

_MARKER = ".drivetl-download.json"


@dataclass(frozen=True)
class GetResult:
    """Where the dataset lies, or, where registration is needed, ``page`` alone.

    ``import_options`` are the arguments with which ``drivetl data import`` reads what was fetched: the format, then
    options.
    """

    name: str
    path: Path | None
    sha256: str | None
    page: str | None
    import_options: tuple[str, ...] = ()


def data_cache() -> Path:
    """Return the folder for fetched datasets: ``$DRIVETL_DATA``, else ``~/.cache/drivetl/data``.

    Raises:
        ConfigError: it begins with ``~``, and that home folder is not known.
    """
    named = os.environ.get("DRIVETL_DATA")
    return expanded(named, "DRIVETL_DATA") if named else expanded("~/.cache/drivetl/data")


def get_dataset(
    card: DatasetCard,
    root: Path,
    *,
    given: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> GetResult:
    """Fetch the dataset of a card into ``root/<name>``, unless it is there already.

    Args:
        card: says where the dataset is.
        root: folder of fetched datasets.
        given: how `load_card` finds the card, which ``import_options`` repeat: the path of a card file; its name if
            None.
        overwrite: fetch again what is there, unless it is an archive with the card's hash that was not unpacked.
        progress: told about fetching and unpacking.

    Raises:
        DownloadError: the dataset can neither be fetched nor registered for, or the download failed.
        DatasetError: the archive is damaged or refused.
        OutputError: the folder cannot be written.
    """
    if card.download is None:
        if not card.registration:
            raise DownloadError(f"the card {quoted(card.name)} describes a format and has nothing to fetch")
        return GetResult(card.name, None, None, card.homepage)
    folder = root / card.name
    marker = folder / _MARKER
    found_as = card.name if given is None else given
    # A card without class names leaves them to the archive's own data.yaml.
    names = ("--names", found_as) if card_names(card) else ()
    options = (card.download.format, *names, "--card", found_as)
    if marker.is_file() and not overwrite:
        sha256 = str(field_of(load_json(marker), "sha256", quoted(marker)))
        return GetResult(card.name, _top(folder), sha256, None, options)
    refuse_existing_dir(folder, marker=_MARKER, overwrite=overwrite)
    archive = root / f"{card.name}-{Path(urlsplit(card.download.url).path).name}"
    sha256 = _fetched(card.download, archive, overwrite, progress)
    with atomic_dir(folder, marker=_MARKER, overwrite=overwrite) as temporary:
        _unpacked(archive, temporary, progress)
        url, _ = without_credentials(card.download.url)  # the dataset may be handed on, and its password may not
        (temporary / _MARKER).write_bytes(json_bytes({"schema": 1, "url": url, "sha256": sha256}))
    archive.unlink()
    return GetResult(card.name, _top(folder), sha256, None, options)


def _fetched(download: Download, archive: Path, overwrite: bool, progress: Progress) -> str:
    """Return the SHA-256 of the archive, which an earlier call may have fetched whole and not unpacked.

    The archive is drivetl's own file. Without a hash in the card, one that lies there is taken as it is, and fetched
    again with ``overwrite``; with a hash, it stays as long as it has that.
    """
    if archive.is_file():
        if download.sha256 is None and not overwrite:
            return sha256_file(archive)
        if overwrite and sha256_file(archive) != download.sha256:
            with writing(archive):
                archive.unlink()
    return fetch(download.url, archive, sha256=download.sha256, progress=progress)


def _unpacked(archive: Path, folder: Path, progress: Progress) -> None:
    """Unpack into ``folder``; an archive that is damaged or refused goes, so that the next call fetches it again."""
    try:
        unpack(archive, folder, progress)
    except DatasetError:
        archive.unlink()
        raise


def _top(folder: Path) -> Path:
    """Return the one folder that most archives wrap everything in, else ``folder``."""
    inside = [path for path in folder.iterdir() if path.name not in (_MARKER, "__MACOSX")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
