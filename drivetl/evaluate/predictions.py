"""What a model found on a split, as a file: written once by ``drivetl evaluate``, compared at any time later."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivetl import files
from drivetl.config import StrictModel, parse_model
from drivetl.data.dataset import Dataset
from drivetl.data.records import Sample
from drivetl.data.text import plain
from drivetl.errors import DatasetError, OutputError, quoted
from drivetl.evaluate.matching import Found, most_confident
from drivetl.files import atomic_file, read_limited

__all__ = ["Picture", "Predictions", "check_dataset", "picture_of", "read_predictions", "refuse_existing"]

PREDICTIONS_SCHEMA = 1

_LIMIT_BYTES = 2 << 30
# A network that averages or is stored in few bits may pass 1 by a rounding error.
_MAX_SCORE = 1 + 1e-6
_KEYS = {"image_id", "category_id", "bbox", "score"}


class Picture(StrictModel):
    """A picture as COCO's ``images`` have it, with its group.

    Attributes:
        id: its number in the dataset's order, from 0.
        file_name: path inside the dataset with forward slashes; of a picture outside it, the name.
        group: see `drivetl.data.records.Sample`.
        height, width: in pixels.
    """

    id: int
    file_name: str
    group: str
    height: int
    width: int


class _Category(StrictModel):
    id: int
    name: str


class _File(StrictModel):
    schema_version: Literal[1]
    kind: Literal["drivetl predictions"]
    model: str
    dataset_fingerprint: str = Field(pattern="^[0-9a-f]{64}$")
    split: str
    images: tuple[Picture, ...]
    categories: tuple[_Category, ...]
    # Files of earlier versions do not say.
    missing_classes: tuple[str, ...] | None = None
    dropped: dict[str, Annotated[int, Field(ge=0)]] | None = None
    predictions: list[Any]


@dataclass(frozen=True, slots=True)
class Predictions:
    """The detections of one model on one split, under the dataset's classes.

    Attributes:
        model: name of the checkpoint or bundle.
        dataset_fingerprint: of the dataset.
        split: which of its splits.
        class_names: of the dataset, in the order of class ids.
        pictures: in the dataset's order.
        found: the detections; ``found.picture`` counts in ``pictures``.
        missing_classes, dropped: see `drivetl.evaluate.EvaluationResult`; None where the file does not say.
    """

    model: str
    dataset_fingerprint: str
    split: str
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    found: Found
    missing_classes: tuple[str, ...] | None = None
    dropped: dict[str, int] | None = None

    @property
    def groups(self) -> list[str]:
        """The group of each picture."""
        return [picture.group for picture in self.pictures]

    def document(self) -> dict[str, Any]:
        """Return a JSON document: ``images``, ``categories`` and ``predictions`` are COCO's, ids counting from 0.

        It keeps the 100 most confident detections of each class and picture; AP does not see more.
        """
        found = most_confident(self.found, len(self.class_names))
        columns = (found.picture.tolist(), found.class_id.tolist(), _short(found.xywh_px), _short(found.confidence))
        return {
            "schema_version": PREDICTIONS_SCHEMA,
            "kind": "drivetl predictions",
            "model": self.model,
            "dataset_fingerprint": self.dataset_fingerprint,
            "split": self.split,
            "images": [picture.model_dump() for picture in self.pictures],
            "categories": [{"id": index, "name": name} for index, name in enumerate(self.class_names)],
            "missing_classes": None if self.missing_classes is None else list(self.missing_classes),
            "dropped": self.dropped,
            "predictions": [
                {"image_id": image, "category_id": category, "bbox": bbox, "score": score}
                for image, category, bbox, score in zip(*columns, strict=True)
            ],
        }

    def write(self, target: Path, *, overwrite: bool = False) -> None:
        """Write the document atomically, without indentation.

        Raises:
            OutputError: see `drivetl.files.atomic_file`.
        """
        refuse_existing(target, overwrite=overwrite)
        with atomic_file(target, overwrite=overwrite) as temporary:
            text = json.dumps(self.document(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            temporary.write_text(text + "\n", encoding="utf-8")


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Say before an evaluation what writing would say after it.

    Raises:
        OutputError: the file exists and may not be replaced, or is a folder.
    """
    if target.is_dir():
        raise OutputError(f"{quoted(target)} is a folder; give --predictions the name of a file")
    files.refuse_existing(target, overwrite=overwrite)


def picture_of(number: int, sample: Sample, root: Path) -> Picture:
    """Return how a dataset's picture is named in a predictions file."""
    inside = sample.image.is_relative_to(root)
    name = sample.image.relative_to(root).as_posix() if inside else sample.image.name
    height, width = (int(side) for side in sample.size_hw)
    return Picture(id=number, file_name=plain(name), group=plain(sample.group), height=height, width=width)


def read_predictions(path: Path) -> Predictions:
    """Read a predictions file.

    Raises:
        DatasetError: it is missing, not JSON, of another kind or schema, or holds a prediction that cannot be.
        ConfigError: keys are missing, unknown or of the wrong kind; all of them are named.
    """
    try:
        document = json.loads(read_limited(path, _LIMIT_BYTES))
    except OSError as error:
        raise DatasetError(f"cannot read the predictions {quoted(path)}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{quoted(path)} is not a JSON file of predictions: {quoted(error)}") from error
    _check_kind(document, path)
    file = parse_model(_File, document, str(path))
    for kind, ids in (("images", [p.id for p in file.images]), ("categories", [c.id for c in file.categories])):
        if ids != list(range(len(ids))):
            raise DatasetError(f"{quoted(path)}: the ids of {quoted(kind)} must count 0, 1, 2, …; write the file again")
    names = tuple(category.name for category in file.categories)
    found = _found(file.predictions, len(file.images), len(names), path)
    of_model = file.missing_classes, file.dropped
    return Predictions(file.model, file.dataset_fingerprint, file.split, names, file.images, found, *of_model)


def check_dataset(predictions: Predictions, path: Path, dataset: Dataset, pictures: tuple[Picture, ...]) -> None:
    """Make sure that predictions belong to a dataset.

    Args:
        predictions: as read from ``path``.
        path: for the message.
        dataset: what they are to be scored on.
        pictures: of the predictions' split of it, from `picture_of`.

    Raises:
        DatasetError: the fingerprint, a class or a picture differs.
    """
    if predictions.dataset_fingerprint != dataset.fingerprint:
        raise DatasetError(
            f"{quoted(path)} was made on the dataset {predictions.dataset_fingerprint}, but {quoted(dataset.root)} is "
            f"{dataset.fingerprint}; give --data the dataset that it was made on, or evaluate again with --predictions"
        )
    if predictions.class_names != dataset.names:
        raise DatasetError(
            f"{quoted(path)} has the classes {quoted(', '.join(predictions.class_names))}, {quoted(dataset.root)} has "
            f"{quoted(', '.join(dataset.names))}; evaluate again with --predictions"
        )
    known = {picture.file_name for picture in pictures}
    for picture in predictions.pictures:
        if picture.file_name not in known:
            raise DatasetError(
                f"{quoted(path)} names the picture {quoted(picture.file_name)}, which the split "
                f"{quoted(predictions.split)} of {quoted(dataset.root)} does not have; "
                "evaluate again with --predictions"
            )
    if predictions.pictures != pictures:
        raise DatasetError(
            f"{quoted(path)} lists {len(predictions.pictures)} pictures, and not as the split "
            f"{quoted(predictions.split)} of {quoted(dataset.root)} has its {len(pictures)} (order, size or group "
            "differ); evaluate again with --predictions"
        )


def _check_kind(document: Any, path: Path) -> None:
    if not isinstance(document, dict) or document.get("kind") != "drivetl predictions":
        raise DatasetError(
            f"{quoted(path)} is not a file of predictions; write one with: "
            "drivetl evaluate MODEL --data DATASET --predictions FILE.json"
        )
    if document.get("schema_version") != PREDICTIONS_SCHEMA:
        raise DatasetError(
            f"{quoted(path)} has the schema version {quoted(document.get('schema_version'))}, this drivetl reads "
            f"{PREDICTIONS_SCHEMA}; evaluate again with --predictions"
        )


def _found(rows: list[Any], pictures: int, classes: int, path: Path) -> Found:
    table = np.empty((len(rows), 5), dtype=np.float64)
    ids = np.empty((len(rows), 2), dtype=np.int64)
    for number, row in enumerate(rows):
        problem = _problem(row, pictures, classes)
        if problem:
            raise DatasetError(f"{quoted(path)}: prediction {number} (from 0) {problem}; write the file again")
        ids[number] = row["image_id"], row["category_id"]
        table[number] = *row["bbox"], row["score"]
    return Found(ids[:, 0], ids[:, 1], table[:, :4].astype(np.float32), table[:, 4].astype(np.float32))


def _problem(row: Any, pictures: int, classes: int) -> str | None:
    """Return what is wrong with a prediction, or None."""
    if not isinstance(row, dict) or row.keys() != _KEYS:
        return f"must have exactly the keys {', '.join(sorted(_KEYS))}"
    image, category, box, score = row["image_id"], row["category_id"], row["bbox"], row["score"]
    if type(image) is not int or not 0 <= image < pictures:
        return f"is for the unknown picture {quoted(image)} ('images' has ids from 0 to {pictures - 1})"
    if type(category) is not int or not 0 <= category < classes:
        return f"is of the unknown class {quoted(category)} ('categories' has ids from 0 to {classes - 1})"
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box) or min(box[2:]) < 0:
        return f"has the bbox {quoted(box)}, not finite left, top, width and height in pixels"
    if not _is_number(score) or not 0 <= score <= _MAX_SCORE:
        return f"has the score {quoted(score)}, not a number from 0 to 1"
    return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9 and math.isfinite(value)


def _short(values: NDArray[np.float32]) -> Any:
    """Return float32 values as the shortest numbers that read back as the same float32: a third of the file."""
    return values.astype(str).astype(np.float64).tolist()
