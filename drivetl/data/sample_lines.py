"""``samples.jsonl``: one line of JSON a picture, and the fingerprint of a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from drivetl.data.pictures import MAX_PIXELS
from drivetl.data.records import Attribute, Box, IgnoreRegion, Sample, Xyxy
from drivetl.errors import DatasetError, quoted

__all__ = ["LINE_SCHEMA", "fingerprint", "line_of", "picture_of", "rounded", "sample_from", "stored_lines"]

LINE_SCHEMA = 1


def rounded(xyxy_px: Xyxy) -> Xyxy:
    """Return a box to a ten-thousandth of a pixel: what is stored, so that reading it back gives the same."""
    left, top, right, bottom = xyxy_px
    return round(left, 4), round(top, 4), round(right, 4), round(bottom, 4)


def line_of(sample: Sample, image: str, picture_bytes: int) -> str:
    """Return a sample as one line of JSON. ``image`` is the path inside the dataset, with forward slashes."""
    return json.dumps(
        {
            "schema": LINE_SCHEMA,
            "image": image,
            "split": sample.split,
            "size_hw": list(sample.size_hw),
            "bytes": picture_bytes,
            "group": sample.group,
            "boxes": [
                {"class": box.class_name, "xyxy_px": list(box.xyxy_px), "attributes": dict(box.attributes)}
                for box in sample.boxes
            ],
            "ignore": [{"class": region.class_name, "xyxy_px": list(region.xyxy_px)} for region in sample.ignore],
            "attributes": dict(sample.attributes),
        },
        allow_nan=False,
        separators=(",", ":"),
    )


def stored_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number (from 1) and document of every line, without holding the file in memory.

    Raises:
        DatasetError: the file cannot be read, or a line is not JSON of this schema (NaN and infinity are not JSON).
    """
    try:
        with path.open(encoding="utf-8") as handle:
            for number, text in enumerate(handle, start=1):
                document = json.loads(text, parse_constant=_refuse_constant)
                if not isinstance(document, dict) or document.get("schema") != LINE_SCHEMA:
                    raise DatasetError(
                        f"{quoted(path)}, line {number}: not a sample of schema {LINE_SCHEMA}; import again"
                    )
                yield number, document
    except OSError as error:
        raise DatasetError(f"cannot read {quoted(path)}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{quoted(path)} is not JSON lines in UTF-8; import the dataset again") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def picture_of(document: Mapping[str, Any], root: Path, where: str) -> Path:
    """Return the absolute picture path of one stored line.

    Raises:
        DatasetError: there is none, or it lies outside the dataset.
    """
    image = document.get("image")
    if not isinstance(image, str) or "\0" in image:
        raise DatasetError(f"{where}: 'image' is {quoted(image)}, not a path inside the dataset; import again")
    relative = PurePosixPath(image)
    if relative.is_absolute() or ".." in relative.parts:
        raise DatasetError(f"{where}: the picture {quoted(relative)} lies outside the dataset; import again")
    return root / relative


def sample_from(document: Mapping[str, Any], root: Path, where: str) -> Sample:
    """Return the sample of one stored line, with an absolute picture path.

    Raises:
        DatasetError: a field is missing, of the wrong kind or out of range, or the picture lies outside the dataset.
    """
    try:
        return Sample(
            image=picture_of(document, root, where),
            size_hw=_size_hw(document["size_hw"]),
            split=str(document["split"]),
            group=str(document["group"]),
            boxes=tuple(
                Box(str(box["class"]), _xyxy(box["xyxy_px"]), _attributes(box["attributes"]))
                for box in document["boxes"]
            ),
            ignore=tuple(
                IgnoreRegion(_xyxy(region["xyxy_px"]), None if region["class"] is None else str(region["class"]))
                for region in document["ignore"]
            ),
            attributes=_attributes(document["attributes"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{where}: the sample lacks or misuses a field ({quoted(error)}); import again") from error


def _xyxy(values: Sequence[float]) -> Xyxy:
    left, top, right, bottom = values
    # Also refuses NaN. Beyond the border that no picture reaches, sums and areas overflow.
    if not (-MAX_PIXELS <= left <= right <= MAX_PIXELS and -MAX_PIXELS <= top <= bottom <= MAX_PIXELS):
        raise ValueError(f"{quoted(values, 60)} is no box in pixels")
    return float(left), float(top), float(right), float(bottom)


def _size_hw(values: Sequence[int]) -> tuple[int, int]:
    height, width = values
    if not (1 <= height <= MAX_PIXELS and 1 <= width <= MAX_PIXELS):
        raise ValueError(f"{quoted(values, 60)} is no size of a picture")
    return int(height), int(width)


def _attributes(values: Mapping[str, Attribute]) -> dict[str, Attribute]:
    for key, value in values.items():
        if not isinstance(value, str | int | float):
            raise ValueError(f"the attribute {quoted(key)} is {quoted(value, 60)}, not a text or a number")
    return dict(values)


def fingerprint(names: Sequence[str], lines: Iterable[str]) -> str:
    """Return the SHA-256 over class names and sample lines, whatever the order of the lines.

    Lines hold sizes, boxes and the length of each picture file, and no absolute path, so the fingerprint is the same
    on every machine and for linked and copied pictures.
    """
    # The line of a stranger's picture holds its name, which need not be UTF-8.
    digests = sorted(hashlib.sha256(line.strip().encode(errors="surrogateescape")).digest() for line in lines)
    total = hashlib.sha256(json.dumps(list(names)).encode())
    for digest in digests:
        total.update(digest)
    return total.hexdigest()
