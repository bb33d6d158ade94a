"""Dataset cards: where a dataset comes from, its licence, and how its classes map to the driving taxonomy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from drivetl.config import StrictModel, load_model
from drivetl.data.text import plain
from drivetl.errors import ConfigError, DatasetError, quoted
from drivetl.resources import resource_dir, resource_file
from drivetl.taxonomy import DRIVING_CLASSES, canonical_name

__all__ = ["ClassMap", "DatasetCard", "Download", "card_names", "class_map", "known_cards", "load_card", "names_from"]

DROP = "drop"
IGNORE = "ignore"
_CARD_ENDINGS = (".yaml", ".yml")


class Download(StrictModel):
    """An archive that may be downloaded without registration."""

    url: str = Field(pattern=r"^https?://")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    bytes: int | None = Field(None, gt=0)
    format: str = Field(description="the format of what is in the archive, as `data import` names it")
    names: tuple[str, ...] = Field((), description="class names in the order of the ids, where the archive has none")


class DatasetCard(StrictModel):
    """One file of ``datasets/``. Copy it, edit ``classes``, and pass the copy with ``--card``."""

    # It becomes the name of a folder, so it may not lead out of one.
    name: str = Field(pattern=r"^\w[\w.-]{0,59}$")
    title: str
    homepage: str = Field(pattern=r"^https?://")
    licence: str
    format: Literal["kitti", "bdd100k", "nuimages", "cityscapes", "coco", "voc", "yolo"]
    registration: bool
    download: Download | None = None
    classes: dict[str, str] = Field(description="native class -> a class of the taxonomy, 'drop' or 'ignore'")
    unlisted: Literal["refuse", "by_meaning"] = Field(
        "refuse", description="a class that the card lacks: an error, or mapped by its name and dropped if unknown"
    )
    box_origin: Literal["detect", "zero", "one"] = Field(
        "detect", description="Pascal VOC only: whether the first pixel has the coordinate 0 or 1"
    )
    notes: str = ""

    @field_validator("classes")
    @classmethod
    def _targets_exist(cls, classes: dict[str, str]) -> dict[str, str]:
        allowed = (*DRIVING_CLASSES, DROP, IGNORE)
        for native, target in classes.items():
            if target not in allowed:
                raise ValueError(f"{quoted(native)} goes to {quoted(target)}, which is not one of {', '.join(allowed)}")
        return classes


class ClassMap:
    """What becomes of each native class in one import. `target` answers for one class; `names` orders the result."""

    def __init__(self, card: DatasetCard, native: bool, source_names: tuple[str, ...] | None) -> None:
        self._card = card
        self.card_name = card.name
        self._native = native
        self._source_names = source_names
        self._listed = {_key(name): (name, target) for name, target in card.classes.items()}

    def target(self, native_name: str) -> str | None:
        """Return the dataset class for a native class, `DROP`, or None for a region to ignore.

        Raises:
            DatasetError: the card does not know the class and says that this is an error.
        """
        listed = self._listed.get(_key(native_name))
        if listed is not None and listed[1] == IGNORE:
            return None
        if self._native:
            if listed is None and self._card.unlisted == "refuse":
                raise self._unknown(native_name)
            return plain(native_name) if listed is None or self._source_names else listed[0]
        if listed is not None:
            return listed[1]
        if self._card.unlisted == "refuse":
            raise self._unknown(native_name)
        meaning = canonical_name(native_name)
        return meaning if meaning in DRIVING_CLASSES else DROP

    def names(self, present: Iterable[str]) -> tuple[str, ...]:
        """Return the class names of the dataset in the order of their ids, given those that have examples."""
        if self._native:
            if self._source_names is not None:
                return tuple(plain(name) for name in self._source_names if self.target(name) is not None)
            listed = tuple(name for name, target in self._card.classes.items() if target != IGNORE)
            return listed if self._card.unlisted == "refuse" else tuple(sorted(present))
        found = set(present) if self._card.unlisted == "by_meaning" else set(self._card.classes.values())
        return tuple(name for name in DRIVING_CLASSES if name in found)

    def _unknown(self, native_name: str) -> DatasetError:
        return DatasetError(
            f"the card {quoted(self._card.name)} does not say what to do with the class {quoted(native_name)}; add it "
            f"under 'classes' in a copy of datasets/{self._card.name}.yaml and pass that with --card"
        )


def class_map(card: DatasetCard, classes: str, source_names: tuple[str, ...] | None) -> ClassMap:
    """Return the map for ``classes``: ``driving`` (the taxonomy) or ``native`` (the source's own names).

    Raises:
        ConfigError: neither of the two.
    """
    if classes not in ("driving", "native"):
        raise ConfigError(f"--classes takes driving or native, not {quoted(classes)}")
    return ClassMap(card, classes == "native", source_names)


def known_cards() -> list[str]:
    """Return the names of the shipped cards, sorted."""
    return sorted(path.stem for path in resource_dir("datasets").glob("*.yaml"))


def load_card(card: str | Path) -> DatasetCard:
    """Read a shipped card by its name, or any card by its path.

    Raises:
        ConfigError: there is no such card, or it does not fit the schema.
    """
    path = Path(card)
    if path.suffix not in _CARD_ENDINGS:
        path = resource_file("datasets", str(card))
    return load_model(DatasetCard, path)


def card_names(card: DatasetCard) -> tuple[str, ...]:
    """Return the class names of a card in the order of their ids, or none if it lists no classes."""
    return card.download.names if card.download and card.download.names else tuple(card.classes)


def names_from(value: str | Path) -> tuple[str, ...]:
    """Return class names in the order of their ids: from a card (``coco``, ``my.yaml``) or a file, one name a line.

    Raises:
        ConfigError: neither a card nor a readable file, it has no name, or a name stands twice.
    """
    path = Path(value)
    if str(value) in known_cards() or path.suffix in _CARD_ENDINGS:
        if not (listed := card_names(load_card(value))):
            raise ConfigError(
                f"--names {quoted(value)} is a card that lists no classes; give a file with one class name a line, in "
                "the order of the ids, or a card that does, such as coco"
            )
        return listed
    if not path.is_file():
        raise ConfigError(
            f"--names {quoted(value)} is neither a file with one class name a line nor a card "
            f"({', '.join(known_cards())})"
        )
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--names {quoted(path)} cannot be read as UTF-8 text") from error
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"--names {quoted(path)} must hold class names, one a line, each once")
    return names


def _key(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())
