"""A recipe: one YAML that takes a dataset's own files, or rendered scenes, to a verified bundle, a video and a page.

A recipe is a list of verbs with their settings. Each stage is the verb that a person could type; stages hand over
files, and a stage runs again only when its command, its sources or a stage before it has changed, or what it made is
gone. Which verbs a recipe comes to is in `drivetl.recipe_stages`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from drivetl import __version__
from drivetl.config import StrictModel, load_yaml
from drivetl.errors import DatasetError, quoted
from drivetl.files import files_below, sha256_file

__all__ = [
    "TRAIN_DATASETS",
    "TRAIN_FILES",
    "DataStage",
    "DriveStage",
    "FallbackStage",
    "Recipe",
    "ScenesStage",
    "Stage",
    "TrainSettings",
    "WeatherStage",
    "dataset_folders",
    "named_files",
    "source_state",
]

# How much of a source is read to see whether it changed: a second or two from memory, some thousand pictures.
_READ_WHOLE_BYTES = 2 * 1024**3

# Options that name what a verb writes.
_OUTPUTS = ("--out", "--predictions")

# Settings of ``drivetl train`` under its names; what is left out keeps its default. `drivetl run` checks them against
# `drivetl.adapt.config.TrainConfig` before it starts, so that there is one list of them.
TrainSettings = dict[str, Any]
# Those that name a file, and those that name a dataset.
TRAIN_FILES = ("albumentations",)
TRAIN_DATASETS = ("replay", "retention")


class DataStage(StrictModel):
    """Import of a published dataset, and the selection split cut out of its training pictures.

    A source's own splits stay what they are, under the names of ``split_names``. Where it has none (KITTI), ``test``
    is drawn at the import, so that the report has pictures that nothing was trained on or chosen with.
    """

    format: Literal["kitti", "bdd100k", "nuimages", "cityscapes", "coco", "voc", "yolo"]
    source: Path
    card: str | None = None
    classes: Literal["driving", "native"] = "driving"
    names: str | None = None
    split_names: str | None = Field(default=None, description="rename the source's splits, as train=train,val=test")
    test: float = Field(
        default=0.2, ge=0.0, le=0.9, description="share for the split test, by group, where the source has no splits"
    )
    selection: float = Field(
        default=0.2,
        ge=0.0,
        lt=1.0,
        description="share of train that becomes val, by group; 0 cuts nothing, for a source that brings its own val "
        "(without one, training takes its last epoch)",
    )


class ScenesStage(StrictModel):
    """Scenes to render instead of a dataset to import."""

    preset: str = Field(description="a shipped environment, or a YAML file")
    train: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=1)
    size: str = Field(default="540x960", pattern=r"^\d+x\d+$", description="height x width in pixels")


class WeatherStage(StrictModel):
    """The report split once more, under a weather condition with the exact depth."""

    condition: str = "fog"
    severity: int = Field(default=3, ge=1, le=5)


class DriveStage(StrictModel):
    """A rendered drive for the video."""

    frames: int = Field(default=100, ge=1)
    fps: float = Field(default=10.0, gt=0)
    condition: str | None = None
    severity: int = Field(default=3, ge=1, le=5)


class VerifyStage(StrictModel):
    """Options of ``drivetl verify``."""

    limit: int | None = Field(default=None, ge=1, description="compare at most this many pictures")


class BenchStage(StrictModel):
    """Options of ``drivetl bench``."""

    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    profile: str | None = None
    budget_ms: float | None = Field(default=None, gt=0)


class VideoStage(StrictModel):
    """Options of ``drivetl video``. Without a source, the held-out pictures become the video."""

    source: Path | None = None
    confidence: float = Field(default=0.25, ge=0, le=1)


class FallbackStage(StrictModel):
    """Weights to take where the recipe's own are not on this machine.

    Their head is new, so the model before adaptation is one that was trained on scenes of another environment.
    """

    imgsz: int | None = Field(default=None, ge=64, le=4096, multiple_of=32, description="in place of the recipe's")
    input_size: str | None = Field(default=None, pattern=r"^\d+x\d+$", description="in place of the recipe's")
    weights: str
    source: ScenesStage
    source_train: TrainSettings = Field(default_factory=dict)
    train: TrainSettings = Field(default_factory=dict)


class Recipe(StrictModel):
    """A whole recipe. It has either ``data``, to import, or ``scenes``, to render."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    weights: str
    device: str = "cpu"
    imgsz: int = Field(default=640, ge=64, le=4096, multiple_of=32)
    seed: int = Field(default=0, ge=0)
    input_size: str | None = Field(
        default=None, pattern=r"^\d+x\d+$", description="height x width that is measured and exported; null: square"
    )
    report_split: str = "test"
    data: DataStage | None = None
    scenes: ScenesStage | None = None
    weather: WeatherStage | None = None
    fallback: FallbackStage | None = None
    train: TrainSettings = Field(default_factory=dict)
    verify: VerifyStage = VerifyStage()
    bench: BenchStage = BenchStage()
    video: VideoStage = VideoStage()
    drive: DriveStage | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Recipe:
        if (self.data is None) == (self.scenes is None):
            raise ValueError("a recipe has either the section 'data' or the section 'scenes'")
        if self.scenes is None and (self.fallback is not None or self.drive is not None):
            raise ValueError("the sections 'fallback' and 'drive' go with 'scenes'")
        return self

    def fallen_back(self) -> Recipe:
        """Return the recipe with the sizes of its fallback in place of its own."""
        if self.fallback is None:
            return self
        sizes = {"imgsz": self.fallback.imgsz, "input_size": self.fallback.input_size}
        return self.model_copy(update={name: size for name, size in sizes.items() if size is not None})


@dataclass(frozen=True, slots=True)
class Stage:
    """One verb of a recipe.

    Attributes:
        name: of the stage and its JSON file.
        command: the words after ``drivetl``.
        needs: stages whose result it builds on.
        sources: files from outside the run, whose change makes the stage run again.
        replaces: pass ``--overwrite`` when it runs again.
        resumes: what the verb writes as soon as it has something to resume. Pass ``--resume`` when the stage was
            interrupted after that.
        share: how long it takes compared with others; for the time left.
        settings: of training; they are written to a file that the command gets as ``--recipe``.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()
    replaces: bool = False
    resumes: Path | None = None
    share: float = 5.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files and folders that its command writes; of a training the weights, which the others build on."""
        named = [Path(word) for option, word in pairwise(self.command) if option in _OUTPUTS]
        trains = self.command[0] in ("train", "baseline")
        return tuple(path / "weights" / "adapted.pt" if trains else path for path in named)

    def key(self, keys: dict[str, str]) -> str:
        """Return a digest of everything the stage's result depends on."""
        state = [
            __version__,
            self.command,
            [keys[name] for name in self.needs],
            [source_state(p) for p in self.sources],
            self.settings,
        ]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def named_files(*values: str | None) -> tuple[Path, ...]:
    """Return the files among values that are either a file or the name of something shipped: cards, profiles, presets.

    A path that ends in ``.yaml`` or ``.yml`` is a file also where nothing stands there yet.
    """
    paths = [Path(value) for value in values if value is not None]
    return tuple(path for path in paths if path.suffix in (".yaml", ".yml") or path.is_file())


def dataset_folders(path: Path) -> tuple[Path, ...]:
    """Return what a dataset's contents lie in: ``path`` itself, and the folder that its YAML is about where that is
    another. Pictures that the YAML finds outside both are not followed.

    Raises:
        ConfigError: the YAML cannot be read.
    """
    inside = (path / name for name in ("data.yaml", "data.yml"))
    yaml = path if path.suffix in (".yaml", ".yml") else next((file for file in inside if file.is_file()), None)
    if yaml is None or not yaml.is_file():
        return (path,)
    folder = yaml.parent / str(load_yaml(yaml).get("path") or "")
    return (path,) if folder.resolve() == path.resolve() else (path, folder)


def source_state(path: Path) -> str:
    """Return a digest of the names and contents of a file or of everything below a folder.

    Dates do not count up to 2 GiB in all: a dataset that was copied or mounted again has new ones, and
    hours of training are not repeated for that. Above, where reading takes minutes, sizes and dates stand for contents.

    Raises:
        DatasetError: a file cannot be read.
    """
    files = [file for file in files_below(path) if file.is_file()] if path.is_dir() else [path]
    states = [(file, file.stat()) for file in files if file.exists()]
    whole = sum(status.st_size for _, status in states) <= _READ_WHOLE_BYTES
    digest = hashlib.sha256()
    for file, status in states:
        try:
            content = sha256_file(file) if whole else str(status.st_mtime_ns)
        except OSError as error:
            raise DatasetError(
                f"cannot read {quoted(file)}: {error.strerror}; make it readable or move it away"
            ) from error
        # A name is bytes to Linux, which need not be UTF-8.
        digest.update(os.fsencode(file.relative_to(path)) + f"\0{status.st_size}\0{content}\n".encode())
    return digest.hexdigest()
