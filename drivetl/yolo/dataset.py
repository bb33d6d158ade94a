"""Ultralytics' training loader, kept from writing into the user's dataset and from hiding what is wrong with it.

As it comes, the loader stores its scan as a pickle beside the labels and loads such a pickle where it finds one,
rewrites a truncated JPEG in place (through a link: the user's original), and leaves out whatever it cannot read. Here
it scans in memory, changes nothing, and a picture or label that it would leave out is an error.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import DatasetError, quoted
from drivetl.yolo.ultra import YOLODataset, data_utils_module, dataset_module, patched

__all__ = ["ReadOnlyDataset"]

_TAIL_BYTES = 1 << 16


class ReadOnlyDataset(YOLODataset):  # type: ignore[misc]
    """Ultralytics' YOLODataset that leaves the files alone.

    Attributes:
        change: what is done to each picture before mosaic, given its boxes in pixels and a generator; None: nothing.

    Raises:
        DatasetError: on construction, when a picture or label cannot be used or nothing is there.
    """

    change: Callable[[NDArray[np.uint8], NDArray[np.float32], np.random.Generator], NDArray[np.uint8]] | None = None

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """Return one picture with its label, changed; mosaic takes its four pictures through here too."""
        label: dict[str, Any] = super().get_image_and_label(index)
        if self.change is not None:
            # Ultralytics' augmentations draw from the global generators, which the trainer seeds; so does this seed.
            rng = np.random.default_rng(random.getrandbits(64))
            label["img"] = self.change(label["img"], _boxes_xyxy_px(label), rng)
        return label

    def _load_or_scan_cache(self, cache_path: Path, cache_hash: str) -> tuple[dict[str, Any], bool]:
        return self.cache_labels(cache_path), False

    def cache_labels(self, path: Path = Path("labels.cache")) -> dict[str, Any]:
        """Scan pictures and labels."""
        with (
            patched(dataset_module, save_dataset_cache_file=_do_not_store),
            patched(data_utils_module, _replace_image=_leave_the_file),
        ):
            scan: dict[str, Any] = super().cache_labels(path)
        found, corrupt = scan["results"][0], scan["results"][3]
        if corrupt:
            message = next((m for m in scan["msgs"] if "ignoring" in m), "no details")
            raise DatasetError(
                f"{corrupt} picture(s) or label(s) cannot be used, the first: {quoted(message, 240)}; "
                "run 'drivetl data check' for the whole list"
            )
        if not found and self.augment:
            raise DatasetError(f"there are no labels beside {quoted(path.with_suffix(''))}; run 'drivetl data check'")
        return scan

    def start_epoch(self) -> None:
        """Forget the pictures kept for mosaics, so that an epoch does not depend on the one before it."""
        for index in self.buffer:
            self.ims[index] = None
        self.buffer.clear()


def _boxes_xyxy_px(label: dict[str, Any]) -> NDArray[np.float32]:
    """Return the boxes in pixels of the loaded picture; the label's own instances stay as they are."""
    xywh = label["instances"].bboxes
    half = xywh[:, 2:] / 2
    height, width = label["img"].shape[:2]
    corners = np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], axis=1)
    return np.asarray(corners * (width, height, width, height), dtype=np.float32)


def _do_not_store(prefix: str, path: Path, x: dict[str, Any], version: str) -> None:
    """Take the place of the function that writes the scan beside the labels, which also adds the version."""
    x["version"] = version


def _leave_the_file(file: str, save: Callable[[str], object]) -> None:
    """Take the place of the function that rewrites a JPEG which does not end with its end marker.

    Bytes after the marker do no harm and are common. Without a marker the picture is cut off, and a decoder fills the
    rest with grey.
    """
    if b"\xff\xd9" not in Path(file).read_bytes()[-_TAIL_BYTES:]:
        raise ValueError("the JPEG is cut off")
