"""nuImages: relational JSON tables in ``v1.0-<split>/``, joined by token.

Source of the schema: nuscenes-devkit, docs/schema_nuimages.md. ``object_ann.bbox`` is [xmin, ymin, xmax, ymax] in
pixels of 1600 x 900 pictures. Only key frames are labelled; the frames around them are sweeps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drivetl.data.pictures import picture_size_hw
from drivetl.data.readers.common import (
    Reading,
    Request,
    field_of,
    file_inside,
    load_json,
    mappings,
    token_of,
    xyxy_from,
)
from drivetl.data.records import Attribute, Box, Sample
from drivetl.errors import DatasetError, quoted

__all__ = ["read"]

Row = Mapping[str, Any]

_SPLITS = {"v1.0-train": "train", "v1.0-val": "val"}
_LEFT_OUT = {
    "v1.0-test": "v1.0-test was left out: its labels are not published.",
    "v1.0-mini": "v1.0-mini was left out: it has no split, unlike what lies beside it; to import it alone, give that "
    "folder as SOURCE.",
}


class _Tables:
    """The tables of one version folder, by token."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.split = _SPLITS.get(folder.name, "")
        names = ("sample_data", "object_ann", "category", "attribute", "sample", "log", "calibrated_sensor", "sensor")
        self._rows = {name: self._load(name) for name in names}
        self.key_frames = [row for row in self._rows["sample_data"].values() if row.get("is_key_frame")]
        self.objects: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows["object_ann"].values():
            self.objects[str(field_of(row, "sample_data_token", self.where("object_ann", row)))].append(row)

    def where(self, table: str, row: Row) -> str:
        return f"{quoted(self.folder / (table + '.json'))}, token {quoted(row.get('token', '?'), 40)}"

    def join(self, table: str, row: Row, key: str, other: str) -> Row:
        """Return the row of ``other`` that ``row[key]`` points to.

        Raises:
            DatasetError: there is none.
        """
        token = token_of(row, key, self.where(table, row))
        if token not in self._rows[other]:
            raise DatasetError(f"{self.where(table, row)}: {key} {quoted(token, 40)} is not in {other}.json")
        return self._rows[other][token]

    def attribute_names(self, row: Row) -> list[str]:
        """Return the names of a row's attributes; a token that points nowhere is left out.

        Raises:
            DatasetError: the tokens are no list of texts, or an attribute has no name.
        """
        tokens = row.get("attribute_tokens") or []
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise DatasetError(
                f"{self.where('object_ann', row)}: attribute_tokens is {quoted(tokens, 40)}, not a list of tokens; "
                "fetch the file again"
            )
        rows = [self._rows["attribute"][token] for token in tokens if token in self._rows["attribute"]]
        return [str(field_of(attribute, "name", self.where("attribute", attribute))) for attribute in rows]

    def _load(self, name: str) -> dict[str, Row]:
        path = self.folder / f"{name}.json"
        return {
            str(field_of(row, "token", f"{quoted(path)}, row {index}")): row
            for index, row in enumerate(mappings(load_json(path), quoted(path)))
        }


def read(request: Request) -> Reading:
    """Read every labelled version folder below SOURCE (``v1.0-train``, ``v1.0-val``), or the one that SOURCE is.

    ``v1.0-mini`` is read where it is asked for, or stands alone: it has no split, and with others that have one the
    set could not be divided. Pictures of one drive (log) form a group. Attributes: ``location``, ``camera`` and, from
    the name of the log file, the local ``hour``.

    Raises:
        DatasetError: tables or pictures are missing, or a token points nowhere.
    """
    root, folders = _versions(request.source)
    has_splits = any(folder.name in _SPLITS for folder in folders)
    # The archive of all tables holds mini too, so it lies beside the others as a rule.
    left_out = {"v1.0-test", "v1.0-mini"} if has_splits else {"v1.0-test"}
    labelled = [folder for folder in folders if folder.name not in left_out]
    if not labelled:
        raise DatasetError(
            f"{quoted(request.source)} neither has nor is a labelled folder v1.0-*; give nuImages' top folder, or its "
            "v1.0-train, v1.0-val or v1.0-mini"
        )
    tables = [_Tables(folder) for folder in labelled]
    samples = (sample for table in tables for sample in _samples(table, root))
    reading = Reading(samples, sum(len(table.key_frames) for table in tables))
    reading.notes += [_LEFT_OUT[folder.name] for folder in folders if folder.name in left_out]
    return reading


def _versions(source: Path) -> tuple[Path, list[Path]]:
    """Return the top folder of the set and the version folders to look at, which may be SOURCE alone."""
    folders = sorted(path for path in source.glob("v1.0-*") if path.is_dir())
    here = source.absolute()  # of the path ".", too, the name is wanted
    if not folders and here.name.startswith("v1.0-") and source.is_dir():
        return here.parent, [here]
    return source, folders


def _samples(tables: _Tables, root: Path) -> Iterator[Sample]:
    for row in tables.key_frames:
        where = tables.where("sample_data", row)
        name = str(field_of(row, "filename", where))
        image = file_inside(root, name, where)
        if image is None:
            raise DatasetError(f"{where}: the picture {quoted(name)} is not below {quoted(root)}; restore it")
        sample = tables.join("sample_data", row, "sample_token", "sample")
        log = tables.join("sample", sample, "log_token", "log")
        sensor = tables.join(
            "calibrated_sensor",
            tables.join("sample_data", row, "calibrated_sensor_token", "calibrated_sensor"),
            "sensor_token",
            "sensor",
        )
        boxes = tuple(_box(tables, entry) for entry in tables.objects.get(str(row["token"]), []))
        group = str(log.get("logfile") or log["token"])
        attributes = _conditions(log, sensor)
        yield Sample(image, picture_size_hw(image), tables.split, group, boxes, (), attributes)


def _box(tables: _Tables, row: Row) -> Box:
    where = tables.where("object_ann", row)
    category = tables.join("object_ann", row, "category_token", "category")
    # "vehicle.moving" -> {"vehicle": "moving"}: the part before the dot names the attribute.
    pairs = (name.rpartition(".") for name in tables.attribute_names(row))
    attributes: dict[str, Attribute] = {kind: value for kind, _, value in pairs if kind}
    return Box(str(field_of(category, "name", where)), xyxy_from(field_of(row, "bbox", where), where), attributes)


def _conditions(log: Row, sensor: Row) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {}
    if log.get("location"):
        attributes["location"] = str(log["location"])
    if sensor.get("channel"):
        attributes["camera"] = str(sensor["channel"])
    # A log file is named after vehicle and local start: n015-2018-07-18-11-07-57+0800.
    parts = str(log.get("logfile") or "").split("-")
    if len(parts) >= 7 and parts[4].isdecimal():  # ² is a digit and no number
        attributes["hour"] = int(parts[4])
    return attributes
