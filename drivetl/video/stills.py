"""Pictures of the most interesting frames, chosen while the video runs, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from drivetl.errors import OutputError, quoted
from drivetl.files import atomic_file
from drivetl.video.lane import Job, View

__all__ = ["Stills", "interest"]

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


class Stills:
    """Keeps the best frames, at least a second apart; use it as a context manager that writes them at the end."""

    def __init__(self, folder: Path, count: int, fps: float, overwrite: bool) -> None:
        """Describe what to keep.

        Args:
            folder: gets ``frame-000123.jpg``; files of other names in it stay.
            count: how many pictures.
            fps: frames a second.
            overwrite: replace pictures that stand there.

        Raises:
            OutputError: the folder's name is taken by a file, or it holds stills already.
        """
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"--stills {quoted(folder)} is a file; give a folder")
        if not overwrite and any(folder.glob("frame-*.jpg")):
            raise OutputError(f"{quoted(folder)} holds stills already; pass --overwrite, or choose another --stills")
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
        for still in sorted(self._kept, key=lambda still: still.frame):
            target = self._folder / f"frame-{still.frame:06d}.jpg"
            with atomic_file(target, overwrite=self._overwrite) as temporary:
                temporary.write_bytes(still.jpeg)
            self.written += (target,)
        # They would pass for pictures of this run; without --overwrite there are none.
        for former in set(self._folder.glob("frame-*.jpg")) - set(self.written):
            former.unlink()

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
        _, jpeg = cv2.imencode(".jpg", job.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        self._kept.append(_Still(job.index, value, jpeg.tobytes()))
