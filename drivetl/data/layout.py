"""Write a dataset: YOLO layout for Ultralytics, ``samples.jsonl`` for everything that a label line cannot hold.

::

    DATASET/data.yaml               splits relative to this file, class names; Ultralytics trains on it as it is
    DATASET/dataset.json            where it came from, counts, fingerprint; shows that drivetl made the folder
    DATASET/samples.jsonl           size, group, boxes in pixels, ignore regions and conditions of each picture
    DATASET/images/<split>/…        links to the pictures, or copies
    DATASET/labels/<split>/….txt    class centre_x centre_y width height, as fractions
    DATASET/depth/<split>/….png     exact depth, of rendered scenes that have it, or a link to it
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from drivetl.data.dataset import SAMPLES_FILE, YAML_FILE, Dataset
from drivetl.data.labels import label_line
from drivetl.data.readers.common import field_of, load_json
from drivetl.data.records import Sample
from drivetl.data.sample_lines import fingerprint, line_of
from drivetl.errors import ConfigError, DatasetError, OutputError, quoted
from drivetl.files import atomic_dir, json_bytes
from drivetl.progress import Progress, silent, tracked

__all__ = [
    "DATASET_SCHEMA",
    "MARKER",
    "LinkMode",
    "Origin",
    "counts_of",
    "origin_of",
    "read_origin",
    "refuse_nesting",
    "write_dataset",
]

DATASET_SCHEMA = 1
MARKER = "dataset.json"

LinkMode = Literal["symlink", "copy"]

_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")
_RESERVED_SPLITS = frozenset({"path", "names", "nc", "download", "channels"})


@dataclass(frozen=True)
class Origin:
    """Where a dataset came from: kept in ``dataset.json``, carried over by `split`, and joined by `merge`.

    ``ignored`` counts ignore regions, ``dropped`` the boxes of native classes that no import kept.
    """

    format: str
    card: str
    classes: str
    ignored: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


def read_origin(dataset: Dataset) -> Origin:
    """Return the origin of a dataset; for one that drivetl did not write, that is the YOLO layout.

    Raises:
        DatasetError: ``dataset.json`` is damaged.
    """
    path = dataset.root / MARKER
    if not path.is_file():
        return Origin("yolo", "yolo", "native")
    document = load_json(path)
    values = [field_of(document, key, quoted(path)) for key in ("format", "card", "classes", "ignored", "dropped")]
    if not isinstance(values[4], Mapping) or not all(type(count) is int for count in values[4].values()):
        raise DatasetError(f"{quoted(path)}: 'dropped' is {quoted(values[4], 60)}, not counts by class; import again")
    return Origin(*values)


def origin_of(dataset: Dataset, samples: Iterable[Sample]) -> Origin:
    """Return the origin of a part of a dataset, with the ignore regions that the part has; errors as `read_origin`."""
    return replace(read_origin(dataset), ignored=sum(len(sample.ignore) for sample in samples))


def counts_of(samples: Iterable[Sample], names: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return pictures per split, and boxes per class (zero included) in the order of ``names``."""
    splits: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    for sample in samples:
        splits[sample.split] += 1
        classes.update(box.class_name for box in sample.boxes)
    return dict(splits), {name: classes[name] for name in names}


def refuse_nesting(source: Path, out: Path, *, may_lie_in: bool = False) -> None:
    """Refuse to write over the source: its other splits, labels and depth would be gone with the old folder.

    What does not rewrite the source in its own place sets ``may_lie_in``: there, nothing of the source is lost.

    Raises:
        OutputError: ``out`` is the source, lies in it or holds it.
    """
    here, there = source.resolve(), out.resolve()
    if here.is_relative_to(there) or (there.is_relative_to(here) and not may_lie_in):
        raise OutputError(
            f"{quoted(out)} is the dataset itself, lies in it or holds it ({quoted(source)}); the new dataset needs a "
            "folder of its own, so choose another --out"
        )


def write_dataset(
    out: Path,
    samples: Sequence[Sample],
    names: Sequence[str],
    origin: Origin,
    *,
    link: LinkMode = "symlink",
    depth: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """Write ``samples``, whose boxes are inside their pictures and whose classes are in ``names``, to ``out``.

    A picture that comes from a dataset with exact depth brings its own, under its new split and name. ``depth`` is
    the folder of new depth maps, on the same file system, and moves into the dataset.

    Raises:
        ConfigError: ``link`` is neither ``symlink`` nor ``copy``.
        DatasetError: there is no sample, a picture is gone, two classes share a name, or a split has a name that
            cannot be a folder.
        OutputError: ``out`` exists and may not be replaced, or cannot be written.
    """
    if link not in ("symlink", "copy"):
        raise ConfigError(f"pictures are linked (symlink) or copied (copy), not {quoted(link)}")
    splits, _ = counts_of(samples, names)
    _check(samples, names, splits)
    ids = {name: index for index, name in enumerate(names)}
    with atomic_dir(out, marker=MARKER, overwrite=overwrite) as folder:
        for split in splits:
            (folder / "images" / split).mkdir(parents=True)
            (folder / "labels" / split).mkdir(parents=True)
        used: set[str] = set()
        lines = []
        for sample in tracked(samples, "writing", len(samples), progress):
            name = _unique_name(sample.image, used)
            place = f"images/{sample.split}/{name}"
            source = sample.image.resolve()
            _place(source, folder / place, link, out)
            labels = [label_line(ids[box.class_name], box.xyxy_px, sample.size_hw) + "\n" for box in sample.boxes]
            (folder / "labels" / sample.split / name).with_suffix(".txt").write_text("".join(labels), encoding="utf-8")
            lines.append(line_of(sample, place, source.stat().st_size))
            if (exact := _depth_of(sample.image)) is not None:
                target = (folder / "depth" / sample.split / name).with_suffix(".png")
                target.parent.mkdir(parents=True, exist_ok=True)
                _place(exact.resolve(), target, link, out)
        (folder / SAMPLES_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (folder / YAML_FILE).write_text(_yaml_text(splits, names), encoding="utf-8")
        document = _document(samples, names, origin)
        (folder / MARKER).write_bytes(json_bytes({**document, "fingerprint": fingerprint(names, lines)}))
        if depth is not None:
            depth.replace(folder / "depth")
    return Dataset(out / YAML_FILE)


def _document(samples: Sequence[Sample], names: Sequence[str], origin: Origin) -> dict[str, Any]:
    """Return ``dataset.json`` without its fingerprint."""
    splits, per_class = counts_of(samples, names)
    return {
        "schema": DATASET_SCHEMA,
        "format": origin.format,
        "card": origin.card,
        "classes": origin.classes,
        "names": list(names),
        "images": len(samples),
        "boxes": sum(per_class.values()),
        "per_class": per_class,
        "ignored": origin.ignored,
        "dropped": dict(origin.dropped),
        "splits": splits,
    }


def _check(samples: Sequence[Sample], names: Sequence[str], splits: Mapping[str, int]) -> None:
    """Raise what would otherwise look like a disk that cannot be written, or come out when the dataset is opened."""
    if not splits:
        raise DatasetError("the source has no labelled pictures, so there is no dataset to write")
    for split in splits:
        if not _SPLIT_NAME.fullmatch(split) or split in _RESERVED_SPLITS:
            raise DatasetError(
                f"{quoted(split)} cannot be the name of a split; rename it with --split-names {quoted('OLD=NEW')}"
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DatasetError(
            f"the source has two classes named {quoted(twice[0])}; rename one of them, or leave --classes native out"
        )
    for sample in samples:
        if not sample.image.is_file():
            raise DatasetError(
                f"the picture {quoted(sample.image)} is gone; put it back where it was, or import its dataset again"
            )


def _yaml_text(splits: Iterable[str], names: Sequence[str]) -> str:
    # Without a key `path`, Ultralytics takes the paths from the folder of this file, so the folder may be moved.
    document = {split: f"images/{split}" for split in splits}
    return yaml.safe_dump({**document, "names": dict(enumerate(names))}, sort_keys=False, allow_unicode=False)


def _unique_name(image: Path, used: set[str]) -> str:
    """Return a file name that is plain ASCII and whose stem no other picture has, in any case of letters."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", image.stem)[:120]
    stem = f"_{stem}" if not stem or stem[0] in ".-" else stem
    candidate, number = stem, 1
    while candidate.casefold() in used:
        number += 1
        candidate = f"{stem}-{number}"
    used.add(candidate.casefold())
    return candidate + image.suffix.lower()


def _depth_of(image: Path) -> Path | None:
    """Return the depth map of a picture in a dataset that drivetl made, if it has one.

    The path says it, not ``Sample.split``, which is the split that the picture is on its way to.
    """
    root = image.parent.parent.parent
    if image.parent.parent.name != "images" or not (root / MARKER).is_file():
        return None
    path = root / "depth" / image.parent.name / f"{image.stem}.png"
    return path if path.is_file() else None


def _place(source: Path, target: Path, link: LinkMode, out: Path) -> None:
    if link == "copy":
        shutil.copyfile(source, target)
    elif source.is_relative_to(out.resolve()):
        # The dataset is being rewritten in its own place: its copied pictures must outlive the old folder.
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    else:
        target.symlink_to(source)
