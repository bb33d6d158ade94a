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
from numpy.typing import NDArray

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
# Two on either side of a still may be too near to it, so that the best of five times as many are enough to choose from.
_CANDIDATES = 5
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
    """Keeps the best frames, at least a second apart; use it as a context manager that writes them at the end.

    The best frame of every half second is a candidate. They are chosen among at the end: where interest rises for long,
    each frame outdoes the one before, and what is dropped for its neighbour would leave nothing but the last.
    """

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
        self._slot_frames = (self._apart + 1) // 2
        self._slot = 0
        self._best: tuple[int, float, NDArray[np.uint8]] | None = None  # of this slot: frame, interest, picture
        self._kept: list[_Still] = []

    def __enter__(self) -> Stills:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        self._end_slot()
        jpegs = {f"frame-{still.frame:06d}.jpg": still.jpeg for still in self._chosen()}
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

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say about those that were written."""
        if len(self.written) == self._count:
            return ()
        found = f"{len(self.written)} of {self._count} stills"
        return (f"{found}: all other frames that stand out lie within {_APART_S:g} s of these",)

    def consider(self, job: Job) -> None:
        """Keep a finished frame if it is the most interesting one of its half second so far."""
        slot = job.index // self._slot_frames
        if slot != self._slot:
            self._end_slot()
            self._slot = slot
        value = interest(job.views, (job.image_bgr.shape[1], job.image_bgr.shape[0]))
        if self._best is None or value > self._best[1]:
            # A copy costs a tenth of a JPEG, and the next frame may be better still.
            self._best = job.index, value, job.image_bgr.copy()

    def _end_slot(self) -> None:
        """Make a candidate of the best frame of a half second, in place of the least if there are enough."""
        if self._best is None:
            return
        (frame, value, image_bgr), self._best = self._best, None
        if len(self._kept) == _CANDIDATES * self._count:
            least = min(self._kept, key=lambda still: still.interest)
            if value <= least.interest:
                return
            self._kept.remove(least)
        self._kept.append(_Still(frame, value, jpeg_bytes(image_bgr, _JPEG_QUALITY)))

    def _chosen(self) -> list[_Still]:
        """Return the best candidates that are far enough from each other, in the order of the video."""
        chosen: list[_Still] = []
        for still in sorted(self._kept, key=lambda still: (-still.interest, still.frame)):
            if len(chosen) < self._count and all(abs(still.frame - other.frame) >= self._apart for other in chosen):
                chosen.append(still)
        return sorted(chosen, key=lambda still: still.frame)
