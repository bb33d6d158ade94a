"""From a name or a path to a checkpoint on this machine. Nothing here loads torch; only `get_weights` downloads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from drivetl.errors import DownloadError, WeightsError, quoted
from drivetl.files import expanded, sha256_file, writing
from drivetl.progress import Progress, silent
from drivetl.yolo.environment import cache_dir
from drivetl.yolo.packaged import PACKAGED, get_packaged

__all__ = [
    "PUBLISHED_SHA256",
    "Found",
    "get_weights",
    "is_published_name",
    "list_weights",
    "resolve_weights",
    "weights_cache",
]

_ASSETS = "https://github.com/ultralytics/assets/releases/download"

# sha256 of the files in Ultralytics' asset releases; where a file was replaced under its name, the older one follows.
PUBLISHED_SHA256: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "yolo11n": ("0ebbc80d4a7680d14987a577cd21342b65ecfd94632bd9a8da63ae6417644ee1",),
        "yolo11s": ("85a76fe86dd8afe384648546b56a7a78580c7cb7b404fc595f97969322d502d5",),
        "yolo11m": ("d5ffc1a674953a08e11a8d21e022781b1b23a19b730afc309290bd9fb5305b95",),
        "yolo26n": ("9b09cc8bf347f0fc8a5f7657480587f25db09b34bf33b0652110fb03a8ad4fef",),
        "yolo26s": ("646f8bc3fe0a656803d95c294f7852321748cb29d13466a1af8862e2db384a1b",),
        "yolo26m": ("401cea9ab23ad19246ff7744859816bc599f350e93c9dd30367b6f0a0745d0b7",),
        "yolov8n": (
            "f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36",
            "31e20dde3def09e2cf938c7be6fe23d9150bbbe503982af13345706515f2ef95",
        ),
        "yolov8s": (
            "1f47a78bf100391c2a140b7ac73a1caae18c32779be7d310658112f7ac9aa78a",
            "268e5bb54c640c96c3510224833bc2eeacab4135c6deb41502156e39986b562d",
        ),
        "yolov8m": (
            "5d4a90cdc7a21786cc59cd19778e9eafff836df9e2da32524737c7ee6efe4fe5",
            "6c25b0b63b1a433843f06d821a9ac1deb8d5805f74f0f38772c7308c5adc55a5",
        ),
    }
)

_NAME = re.compile(r"yolo(v8|11|12|26)[nsmlx]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Found:
    """Published weights and where they lie here.

    Attributes:
        name: such as ``yolo11n``.
        path: the file on this machine, or None.
        sha256_known: whether drivetl ships a hash for it.
    """

    name: str
    path: Path | None
    sha256_known: bool


def weights_cache() -> Path:
    """Return the folder into which ``drivetl weights get`` downloads."""
    return cache_dir() / "weights"


def is_published_name(name: str) -> bool:
    """Return whether ``name``, such as ``yolo11n``, is one that Ultralytics publishes weights under."""
    return _NAME.fullmatch(name) is not None


def resolve_weights(name_or_path: str | Path) -> Path:
    """Return the checkpoint that a path, or a name such as ``yolo11n`` or ``yolo11n.pt``, stands for.

    Looked for in this order: the path itself, ``$DRIVETL_WEIGHTS/NAME.pt``, the cache of ``drivetl weights get``.
    ``yolov3-tiny-coco`` is a Darknet file, ``NAME.weights``, in the same places. Nothing is downloaded.

    Raises:
        WeightsError: there is no such file; the message lists the places and names the verb that downloads. Or the
            file of ``yolov3-tiny-coco`` is damaged.
    """
    path = expanded(name_or_path)
    if path.is_file():
        return path
    if path.name != str(name_or_path):
        what = "is a folder, not a checkpoint" if path.is_dir() else "does not exist"
        raise WeightsError(f"the weights {quoted(name_or_path)}: this path {what}; give a .pt file or a name")
    candidate = _find(path.name)
    name = path.name.removesuffix(".pt")
    if candidate is not None:
        if name in PACKAGED and (found := sha256_file(candidate)) != PACKAGED[name].sha256:
            raise WeightsError(
                f"{quoted(candidate)} is damaged: its sha256 is {found}, not {PACKAGED[name].sha256}; "
                f"'drivetl weights get {name}' fetches it again"
            )
        return candidate
    known = name in PACKAGED or is_published_name(name)
    get = f"'drivetl weights get {name}' downloads them" if known else "give the path of a .pt file"
    looked = ", ".join(quoted(place) for place in (Path.cwd(), *_places()))
    raise WeightsError(f"there are no weights {quoted(name_or_path)} (looked in {looked}); {get}")


def _places() -> tuple[Path, ...]:
    own = os.environ.get("DRIVETL_WEIGHTS")
    return (expanded(own, "DRIVETL_WEIGHTS"), weights_cache()) if own else (weights_cache(),)


def _find(name: str) -> Path | None:
    stem = name.removesuffix(".pt")
    file_name = PACKAGED[stem].file_name if stem in PACKAGED else f"{stem}.pt"
    return next((place / file_name for place in _places() if (place / file_name).is_file()), None)


def list_weights() -> list[Found]:
    """Return the published weights drivetl knows, and others found beside them, each with its place on this machine."""
    names = {*PUBLISHED_SHA256, *PACKAGED}
    for place in _places():
        if place.is_dir():
            names.update(path.stem for path in place.glob("*.pt"))
    return [Found(name, _find(name), name in PUBLISHED_SHA256 or name in PACKAGED) for name in sorted(names)]


def get_weights(
    name: str, *, accept_sha256: str | None = None, base_url: str = _ASSETS, progress: Progress = silent
) -> tuple[Path, str]:
    """Download published weights into the cache, unless they are there already.

    An interrupted download continues where it stopped. The file takes its place only after its hash was accepted.

    Args:
        name: ``yolo11n``, ``yolov8s``, ``yolo26m`` and so on, with or without ``.pt``; or ``yolov3-tiny-coco``, which
            comes from the package index.
        accept_sha256: take the file only if it has this hash, whatever the shipped table says.
        base_url: the server's folder of releases.
        progress: told the bytes.

    Returns:
        The file, and its sha256 in hexadecimal.

    Raises:
        WeightsError: the name is not one that Ultralytics publishes, or ``accept_sha256`` is no sha256.
        DownloadError: the download failed, or its hash is not an accepted one.
    """
    stem = name.removesuffix(".pt")
    if stem in PACKAGED:
        if accept_sha256 is not None:
            raise WeightsError(f"{quoted(stem)} is one known file; it takes no --accept-hash")
        return get_packaged(PACKAGED[stem], weights_cache(), progress), PACKAGED[stem].sha256
    match = _NAME.fullmatch(stem)
    if match is None:
        known = ", ".join((*PUBLISHED_SHA256, *PACKAGED))
        raise WeightsError(f"{quoted(name)} is not the name of published weights; with a shipped hash: {known}")
    accepted = _accepted(stem, accept_sha256)
    target = weights_cache() / f"{stem}.pt"
    if target.is_file() and (present := sha256_file(target)) in accepted:
        return target, present
    from drivetl.data.download import fetch

    incoming = weights_cache() / "incoming" / f"{stem}.pt"
    with writing(incoming):
        incoming.parent.mkdir(parents=True, exist_ok=True)
        # A leftover of an earlier, refused file must not be taken for this one.
        incoming.unlink(missing_ok=True)
    release = "v8.4.0" if match[1] == "26" else "v8.3.0"
    url = f"{base_url}/{release}/{stem}.pt"
    sha256 = fetch(url, incoming, sha256=None, progress=progress)
    if sha256 not in accepted:
        incoming.unlink()
        raise DownloadError(_refusal(stem, url, sha256, accepted))
    with writing(target):
        incoming.replace(target)
    return target, sha256


def _accepted(stem: str, accept_sha256: str | None) -> tuple[str, ...]:
    if accept_sha256 is None:
        return PUBLISHED_SHA256.get(stem, ())
    own = accept_sha256.strip().lower()
    if not _SHA256.fullmatch(own):
        raise WeightsError(f"--accept-hash takes a sha256 (64 hexadecimal digits), not {quoted(accept_sha256)}")
    return (own,)


def _refusal(stem: str, url: str, sha256: str, accepted: tuple[str, ...]) -> str:
    expected = f"expected {' or '.join(accepted)}" if accepted else "drivetl ships no hash for it"
    return (
        f"{quoted(url)} has the sha256 {sha256}, {expected}; it was not kept. If you have that hash from a source "
        f"you trust, run: drivetl weights get {stem} --accept-hash {sha256}"
    )
