"""Pictures of the most interesting frames, chosen while the video runs, in constant memory."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from drivetl.errors import OutputError, quoted
from drivetl.files import atomic_file, json_bytes, read_limited, sha256_file
from drivetl.video.jpeg import jpeg_bytes
from drivetl.video.lane import Job, View

__all__ = ["STILLS_LIST", "Stills", "former_stills", "interest"]

# Beside the stills: which pictures are drivetl's own, so that no other one is ever deleted.
STILLS_LIST = "drivetl-stills.json"
_STILL_NAME = re.compile(r"frame-[0-9]{6,}\.jpg")
_LIST_LIMIT_BYTES = 1 << 20

_APART_S = 1.0
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class _Still:
    frame: int
    interest: float
    jpeg: bytes


def interest(views: Sequence[View], size_wh: tuple[int, int]) -> float:
    """Return how much there is to see: many objects, large ones, different ones, and two models that disagree."""
    value = 0.0
    counts = []
    for view in views:
        assert view.tracked is not None
        detections = view.tracked.detections
        sides = np.maximum(detections.xyxy_px[:, 2:] - detections.xyxy_px[:, :2], 0)
        shares = np.sqrt(sides.prod(axis=1) / (size_wh[0] * size_wh[1]))
        value += float((detections.confidence * (0.2 + shares)).sum()) + 0.3 * len(set(detections.class_id.tolist()))
        counts.append(len(detections))
    return value + 0.5 * (max(counts) - min(counts))


def former_stills(folder: Path, *, overwrite: bool) -> dict[str, str]:
    """Return the stills of a run before, by name, with their hashes.

    Args:
        folder: where stills go; other pictures may lie in it, but none that has the name of a still.
        overwrite: whether they may be replaced.

    Raises:
        OutputError: it is a file, holds stills and may not replace them, holds a picture that is named like a still and
            is none of drivetl's, or cannot be read.
    """
    if not folder.exists():
        return {}
    if not folder.is_dir():
        raise OutputError(f"--stills {quoted(folder)} is a file; give a folder")
    try:
        found = [path for path in sorted(folder.iterdir()) if _STILL_NAME.fullmatch(path.name)]
        own = _listed(folder / STILLS_LIST)
        # By what is in it: in the place of a still, somebody may have put a picture of the same name.
        hashes = {path.name: sha256_file(path) if path.is_file() else "" for path in found}
    except OSError as error:
        raise OutputError(
            f"cannot read --stills {quoted(folder)}: {error.strerror or error}; choose another folder"
        ) from error
    strange = [name for name, sha256 in hashes.items() if (name, sha256) not in own]
    if strange:
        raise OutputError(
            f"{quoted(folder / strange[0])} is named like a still and is none that drivetl wrote; choose another "
            "--stills, or move it away"
        )
    if found and not overwrite:
        raise OutputError(f"{quoted(folder)} holds stills already; pass --overwrite, or choose another --stills")
    return hashes


def _listed(path: Path) -> set[tuple[str, str]]:
    """Return names and hashes of a list of stills; none without a list."""
    if not path.exists():
        return set()
    try:
        listed = json.loads(read_limited(path, _LIST_LIMIT_BYTES))["stills"]
        return {(still["file"], still["sha256"]) for still in listed}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(
            f"{quoted(path)} is no list of stills as drivetl writes it; choose another --stills"
        ) from error


class Stills:
    """Keeps the best frames, at least a second apart; use it as a context manager that writes them at the end."""

    def __init__(self, folder: Path, count: int, fps: float, overwrite: bool) -> None:
        """Describe what to keep.

        Args:
            folder: gets ``frame-000123.jpg`` and a list of them, `STILLS_LIST`; all that is not in the list stays.
            count: how many pictures.
            fps: frames a second.
            overwrite: replace pictures that stand there.

        Raises:
            OutputError: see `former_stills`.
        """
        self._former = former_stills(folder, overwrite=overwrite)
        self.written: tuple[Path, ...] = ()
        self._folder, self._count, self._overwrite = folder, count, overwrite
        self._apart = max(1, round(_APART_S * fps))
        self._kept: list[_Still] = []

    def __enter__(self) -> Stills:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        jpegs = {f"frame-{still.frame:06d}.jpg": still.jpeg for still in sorted(self._kept, key=lambda s: s.frame)}
        if not jpegs and not self._former:
            return
        own = {name: hashlib.sha256(jpeg).hexdigest() for name, jpeg in jpegs.items()}
        # Before the pictures, and with those of before: a run that is killed here leaves none that is not in the list.
        known = [{"file": name, "sha256": sha256} for name, sha256 in (*self._former.items(), *own.items())]
        with atomic_file(self._folder / STILLS_LIST, overwrite=True) as temporary:
            temporary.write_bytes(json_bytes({"stills": known}))
        for name, jpeg in jpegs.items():
            with atomic_file(self._folder / name, overwrite=self._overwrite) as temporary:
                temporary.write_bytes(jpeg)
            self.written += (self._folder / name,)
        # They would pass for pictures of this run; without --overwrite there are none.
        for name in self._former.keys() - own.keys():
            (self._folder / name).unlink(missing_ok=True)

    def consider(self, job: Job) -> None:
        """Keep a finished frame if it is more interesting than what it would replace."""
        value = interest(job.views, (job.image_bgr.shape[1], job.image_bgr.shape[0]))
        near = [still for still in self._kept if job.index - still.frame < self._apart]
        if near:
            replaced = near if value > max(still.interest for still in near) else None
        elif len(self._kept) < self._count:
            replaced = []
        else:
            least = min(self._kept, key=lambda still: still.interest)
            replaced = [least] if value > least.interest else None
        if replaced is None:
            return
        self._kept = [still for still in self._kept if still not in replaced]
        self._kept.append(_Still(job.index, value, jpeg_bytes(job.image_bgr, _JPEG_QUALITY)))
