"""Ultralytics' training loader, kept from writing into the user's dataset and from hiding what is wrong with it.

As it comes, the loader stores its scan as a pickle beside the labels and loads such a pickle where it finds one,
rewrites a truncated JPEG in place (through a link: the user's original), takes an array NAME.npy for the picture beside
it (or overwrites it, or deletes it), and leaves out whatever it cannot read. Here it scans in memory, changes nothing,
and a picture or label that it would leave out is an error.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drivetl.data.pictures import has_its_end
from drivetl.errors import DatasetError, quoted
from drivetl.yolo.small_objects import cropped
from drivetl.yolo.ultra import (
    Mosaic,
    YOLODataset,
    data_utils_module,
    dataset_module,
    imread,
    patched,
)

__all__ = ["ReadOnlyDataset"]

# Ultralytics begins a line with the coloured name of its task: ESC[34m ESC[1m train: ESC[0m.
_COLOURED_PREFIX = re.compile(r"\x1b\[\d*m(?:\w+: )?")


class ReadOnlyDataset(YOLODataset):  # type: ignore[misc]
    """Ultralytics' YOLODataset that leaves the files alone.

    Attributes:
        change: what is done to each picture before mosaic, given its boxes in pixels and a generator; None: nothing.
        small_object_crops: share of the dataset's own pictures that are replaced by a crop around one of their small
            objects, before the change and before mosaic; see `drivetl.yolo.small_objects`.
        wants_labels: whether a dataset without any label is an error.
        targets: how many pictures are the dataset's own; those after them were absorbed.

    Raises:
        DatasetError: on construction, when a picture or label cannot be used or nothing is there.
    """

    change: Callable[[NDArray[np.uint8], NDArray[np.float32], np.random.Generator], NDArray[np.uint8]] | None = None
    small_object_crops = 0.0
    wants_labels = True
    _paired = False
    _leave_clean = False

    def forget_labels(self) -> None:
        """Treat every picture as unlabelled from now on."""
        self.labels[:] = [_relabelled(label, {}) for label in self.labels]

    @property
    def targets(self) -> int:
        return int(self.ni) - self._absorbed

    _absorbed = 0

    @property
    def npy_files(self) -> _Nowhere:
        """Where Ultralytics looks for NAME.npy beside a picture, which it would train on, overwrite or delete."""
        return _Nowhere()

    @npy_files.setter
    def npy_files(self, given: object) -> None:
        """Take no notice of the paths that the base class makes."""

    def absorb(self, other: ReadOnlyDataset, class_ids: Mapping[int, int]) -> None:
        """Append the pictures of another dataset, under this one's class ids.

        Args:
            other: as Ultralytics built it, with nothing changed since.
            class_ids: its class id → the id here; boxes of other classes are left out, their pictures stay.
        """
        self.labels += [_relabelled(label, class_ids) for label in other.labels]
        self.im_files += other.im_files
        for name in ("ims", "im_hw0", "im_hw"):
            getattr(self, name).extend([None] * other.ni)
        self.ni += other.ni
        self._absorbed += other.ni

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """Return one picture with its label, changed; mosaic takes its four pictures through here too."""
        label: dict[str, Any] = super().get_image_and_label(index)
        # Ultralytics' augmentations draw from the global generators, which the trainer seeds; so do these seeds.
        if self.small_object_crops and index < self.targets:
            rng = np.random.default_rng(random.getrandbits(64))
            if rng.random() < self.small_object_crops:
                cropped(label, partial(self._decoded, index), rng)
        if self.change is not None:
            rng = np.random.default_rng(random.getrandbits(64))
            if not self._leave_clean:
                label["img"] = self.change(label["img"], _boxes_xyxy_px(label), rng)
        return label

    def _decoded(self, index: int) -> NDArray[np.uint8]:
        """Return the picture as it is in its file."""
        image: NDArray[np.uint8] | None = imread(self.im_files[index], flags=self.cv2_flag)
        if image is None:
            raise DatasetError(f"the picture {quoted(self.im_files[index])} can no longer be read")
        return image

    def pair(self) -> None:
        """From now on give every picture twice: as ``img``, and as ``clean`` without the change, else alike."""
        self._paired = True
        for transform in _nested(self.transforms):
            if isinstance(transform, Mosaic):
                # The buffer of recent pictures would differ between the two; then draw from all.
                transform.buffer_enabled = False

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one training example."""
        if not self._paired:
            item: dict[str, Any] = super().__getitem__(index)
            return item
        states = random.getstate(), np.random.get_state()
        self._leave_clean = True
        try:
            clean = super().__getitem__(index)["img"]
        finally:
            self._leave_clean = False
        random.setstate(states[0])
        np.random.set_state(states[1])
        return {**super().__getitem__(index), "clean": clean}

    def build_transforms(self, hyp: Any = None) -> Any:
        """Return Ultralytics' augmentations; called again when mosaic is closed."""
        self.transforms = super().build_transforms(hyp)
        if self._paired:
            self.pair()
        return self.transforms

    @staticmethod
    def collate_fn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Put examples together to a batch."""
        clean = [item.pop("clean") for item in batch if "clean" in item]
        collated: dict[str, Any] = YOLODataset.collate_fn(batch)
        return {**collated, "clean": torch.stack(clean)} if clean else collated

    def _load_or_scan_cache(self, cache_path: Path, cache_hash: str) -> tuple[dict[str, Any], bool]:
        return self.cache_labels(cache_path), False

    def cache_labels(self, path: Path = Path("labels.cache")) -> dict[str, Any]:
        """Scan pictures and labels."""
        with (
            patched(dataset_module, save_dataset_cache_file=_do_not_store),
            patched(data_utils_module, _replace_image=_leave_the_file),
            # Ultralytics raises an error of its own where pictures to train on have no label at all.
            patched(self, augment=False),
        ):
            scan: dict[str, Any] = super().cache_labels(path)
        found, corrupt = scan["results"][0], scan["results"][3]
        if corrupt:
            message = next((m for m in scan["msgs"] if "ignoring" in m), "no details")
            message = _COLOURED_PREFIX.sub("", message)
            raise DatasetError(
                f"{corrupt} picture(s) or label(s) cannot be used, the first: {quoted(message, 240)}; "
                "run 'drivetl data check' for the whole list"
            )
        if not found and self.augment and self.wants_labels:
            raise DatasetError(f"there are no labels beside {quoted(path.with_suffix(''))}; run 'drivetl data check'")
        return scan

    def start_epoch(self) -> None:
        """Forget the pictures kept for mosaics, so that an epoch does not depend on the one before it."""
        for index in self.buffer:
            self.ims[index] = None
        self.buffer.clear()


class _Nowhere:
    """A list of as many paths as are asked for, none of which can exist."""

    def __getitem__(self, index: int) -> Path:
        return Path(os.devnull) / "none.npy"


def _relabelled(label: dict[str, Any], class_ids: Mapping[int, int]) -> dict[str, Any]:
    """Return a picture's label with the class ids replaced, and without boxes that have none."""
    old = label["cls"][:, 0].astype(int)
    kept = np.array([index in class_ids for index in old], dtype=bool)
    new = np.array([class_ids[index] for index in old[kept]], dtype=label["cls"].dtype).reshape(-1, 1)
    segments = [segment for segment, keep in zip(label["segments"], kept, strict=False) if keep]
    return {**label, "cls": new, "bboxes": label["bboxes"][kept], "segments": segments}


def _nested(transform: Any) -> Iterator[Any]:
    """Yield a transform and all that it is composed of."""
    yield transform
    for child in [*getattr(transform, "transforms", []), getattr(transform, "pre_transform", None)]:
        if child is not None:
            yield from _nested(child)


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

    Without a marker in its last part the picture is cut off, and a decoder fills the rest with grey.
    """
    if not has_its_end(Path(file)):
        raise ValueError("the JPEG is cut off")
