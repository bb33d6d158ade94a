"""A recipe that compares ways to train: arms × seeds, each measured on the same pictures, each pair with an interval.

It is the other kind of recipe that ``drivetl run`` carries out, and like the first it comes down to verbs that a
person could type: import, folds, train, evaluate, compare. Which ones is in `drivetl.comparison_stages`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from drivetl.config import StrictModel
from drivetl.errors import quoted
from drivetl.recipe import Seed

__all__ = ["TARGET", "ZERO_SHOT", "ComparisonRecipe"]

# The name of the start itself, untouched, among the arms.
ZERO_SHOT = "zero_shot"
# The name of the test pictures of the folds among what is reported on.
TARGET = "target"

# Three of them and a few words of drivetl's make the longest name of a file, which most file systems hold to 255 bytes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class MoveStage(StrictModel):
    """Pictures that a list names move to another split; see ``drivetl data split --list``."""

    list: Path = Field(description="a file beside the recipe")
    into: str
    from_split: str = "train"


class SourceStage(StrictModel):
    """Import of a published dataset; see ``drivetl data import``."""

    format: Literal["kitti", "bdd100k", "nuimages", "cityscapes", "coco", "voc", "yolo"]
    source: Path
    card: str | None = None
    names: str | None = None
    split_names: str | None = None
    val: float = Field(default=0.0, ge=0.0, le=0.9)
    moves: tuple[MoveStage, ...] = ()


class FoldsStage(StrictModel):
    """Cross-validation over the split ``train`` of one source; see ``drivetl data folds``."""

    count: int = Field(ge=2, le=20)
    seed: int = Field(default=0, ge=0)


class ReportStage(StrictModel):
    """Pictures that every arm is measured on."""

    data: str
    split: str
    classes: tuple[str, ...] | None = Field(default=None, description="leave all others out of the comparisons")


class PairStage(StrictModel):
    """Two arms to compare."""

    before: str
    after: str


class ComparisonRecipe(StrictModel):
    """A whole comparison."""

    kind: Literal["comparison"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    weights: str
    device: str = "cpu"
    imgsz: int = Field(default=640, ge=64, le=4096, multiple_of=32)
    threads: int | None = Field(default=None, ge=1)
    seeds: tuple[Seed, ...] = (0, 1, 2)
    sources: dict[str, SourceStage]
    train_on: tuple[str, ...]
    folds: FoldsStage | None = Field(default=None, description="train and test on folds of the one source")
    report_on: dict[str, ReportStage] = Field(default_factory=dict)
    min_boxes: int = Field(default=20, ge=1, description="boxes that a class of the headline needs")
    train: dict[str, Any] = Field(default_factory=dict, description="settings of drivetl train that all arms share")
    arms: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="arm → its own settings; with 'trainer: ultralytics' Ultralytics' own, and no shared ones",
    )
    compare: tuple[PairStage, ...] = ()

    @field_validator("sources", "report_on", "arms")
    @classmethod
    def _name_files(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"files are called after {quoted(name)}, so it must be 1 to 60 letters from A to Z, digits, dots, "
                    "underscores and hyphens, a letter or digit first; choose another name"
                )
        return value

    @field_validator("arms")
    @classmethod
    def _start_is_no_arm(cls, value: dict[str, Any]) -> dict[str, Any]:
        if ZERO_SHOT in value:
            raise ValueError(f"{ZERO_SHOT!r} stands for the start, which is always measured; choose another name")
        return value

    @field_validator("seeds", "train_on")
    @classmethod
    def _each_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("name at least one")
        if twice := [entry for number, entry in enumerate(value) if entry in value[:number]]:
            raise ValueError(f"{quoted(twice[0])} stands there twice; name it once")
        return value

    @model_validator(mode="after")
    def _names_exist(self) -> ComparisonRecipe:
        used = {*self.train_on, *(report.data for report in self.report_on.values())}
        if missing := used - self.sources.keys():
            raise ValueError(f"{sorted(missing)[0]!r} is not among the sources: {', '.join(self.sources)}")
        if self.folds is not None and len(self.train_on) != 1:
            raise ValueError(f"folds are made of one source, but train_on names {len(self.train_on)}")
        if TARGET in self.report_on:
            raise ValueError(f"report_on: {TARGET!r} stands for the test pictures of the folds; choose another name")
        if self.folds is None and not self.report_on:
            raise ValueError("give 'report_on' or 'folds', or there is nothing to measure on")
        if self.train and all(self.trainer(arm) == "ultralytics" for arm in self.arms):
            raise ValueError(
                "'train' is for arms that drivetl trains, and here Ultralytics trains every one; write its settings "
                "into each arm"
            )
        arms = {ZERO_SHOT, *self.arms}
        for name in (name for pair in self.compare for name in (pair.before, pair.after)):
            if name not in arms:
                raise ValueError(f"there is no arm {name!r} to compare; arms: {', '.join(sorted(arms))}")
        return self

    def trainer(self, arm: str) -> str:
        """Return who trains an arm: ``drivetl``, or ``ultralytics`` for the baseline."""
        return str(self.arms[arm].get("trainer", "drivetl"))

    def settings(self, arm: str) -> dict[str, Any]:
        """Return the settings of an arm, the shared ones included where they apply."""
        own = {key: value for key, value in self.arms[arm].items() if key != "trainer"}
        return own if self.trainer(arm) == "ultralytics" else {**self.train, **own}
