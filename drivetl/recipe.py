"""A recipe: one YAML that takes a dataset's own files all the way to a verified bundle and a video.

A recipe is a list of verbs with their settings. Each stage is the verb that a person could type; stages hand over
files, and a stage runs again only when its command, its sources or a stage before it has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from drivetl import __version__
from drivetl.config import StrictModel

__all__ = ["Recipe", "Stage", "source_state", "stages"]


class DataStage(StrictModel):
    """Import of a published dataset, and the selection split cut out of its training pictures."""

    format: Literal["kitti", "bdd100k", "nuimages", "cityscapes", "coco", "voc", "yolo"]
    source: Path
    card: str | None = None
    classes: Literal["driving", "native"] = "driving"
    names: str | None = None
    split_names: str | None = Field(default=None, description="rename the source's splits, as train=train,val=test")
    selection: float = Field(default=0.2, ge=0.0, lt=1.0, description="share of train that becomes val, by group")


class TrainStage(StrictModel):
    """Options of ``drivetl train``; what is left out keeps that verb's default."""

    epochs: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=1)
    lr0: float | None = Field(default=None, gt=0)


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


class Recipe(StrictModel):
    """A whole recipe."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    weights: str
    device: str = "cpu"
    imgsz: int = Field(default=640, ge=64, le=4096, multiple_of=32)
    seed: int = Field(default=0, ge=0)
    report_split: str = "test"
    data: DataStage
    train: TrainStage = TrainStage()
    verify: VerifyStage = VerifyStage()
    bench: BenchStage = BenchStage()
    video: VideoStage = VideoStage()


@dataclass(frozen=True, slots=True)
class Stage:
    """One verb of a recipe.

    Attributes:
        name: of the stage and its JSON file.
        command: the words after ``drivetl``.
        needs: stages whose result it builds on.
        sources: files from outside the run, whose change makes the stage run again.
        replaces: pass ``--overwrite`` when it runs again.
        resumes: pass ``--resume`` when it was interrupted.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()
    replaces: bool = False
    resumes: bool = False

    def key(self, keys: dict[str, str]) -> str:
        """Return a digest of everything the stage's result depends on."""
        state = [
            __version__,
            self.command,
            [keys[name] for name in self.needs],
            [source_state(p) for p in self.sources],
        ]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def source_state(path: Path) -> str:
    """Return a digest of the names, sizes and modification times of a file or of everything below a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.exists():
            status = file.stat()
            digest.update(f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def stages(recipe: Recipe, folder: Path, weights: Path) -> Iterator[Stage]:
    """Yield the stages of a recipe in order.

    Args:
        recipe: what to do.
        folder: where the run keeps its results.
        weights: the resolved checkpoint to start from.
    """
    imported, dataset = folder / "imported", folder / "dataset"
    bundle, adapted = folder / "bundle", folder / "train" / "weights" / "adapted.pt"
    common = ("--imgsz", str(recipe.imgsz), "--device", recipe.device)
    report = ("--data", str(dataset), "--split", recipe.report_split)
    yield Stage(
        "import", _import_command(recipe.data, imported, recipe.seed), sources=(recipe.data.source,), replaces=True
    )
    yield Stage("split", _split_command(recipe, imported, dataset), needs=("import",), replaces=True)
    yield Stage("check", ("data", "check", str(dataset)), needs=("split",))
    yield Stage("zero_shot", ("evaluate", str(weights), *report, *common), needs=("split",), sources=(weights,))
    yield Stage(
        "train",
        (
            *("train", "--data", str(dataset), "--weights", str(weights), "--out", str(folder / "train"), *common),
            # The stages before and after measure, on the split that nothing was chosen with.
            *("--seed", str(recipe.seed), "--no-figures"),
            *_options(recipe.train),
        ),
        needs=("split",),
        sources=(weights,),
        replaces=True,
        resumes=True,
    )
    yield Stage("adapted", ("evaluate", str(adapted), *report, *common), needs=("train", "split"))
    size = ("--imgsz", str(recipe.imgsz))
    yield Stage(
        "export",
        ("export", str(adapted), "--out", str(bundle), "--golden", str(dataset), *size),
        needs=("train",),
        replaces=True,
    )
    yield Stage(
        "verify",
        ("verify", str(bundle), "--weights", str(adapted), *report, *_options(recipe.verify)),
        needs=("export",),
    )
    yield Stage("bench", ("bench", str(bundle), *_options(recipe.bench)), needs=("export",))
    yield _video_stage(recipe, folder, bundle, dataset)


def _import_command(data: DataStage, out: Path, seed: int) -> tuple[str, ...]:
    options = {
        "--card": data.card,
        "--names": data.names,
        "--split-names": data.split_names,
        "--classes": data.classes,
        "--seed": str(seed),
    }
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    return ("data", "import", data.format, str(data.source), "--out", str(out), *given)


def _split_command(recipe: Recipe, imported: Path, dataset: Path) -> tuple[str, ...]:
    share, seed = str(recipe.data.selection), str(recipe.seed)
    cut = ("--from", "train", "--into", "val", "--fraction", share, "--seed", seed)
    return ("data", "split", str(imported), "--out", str(dataset), *cut)


def _video_stage(recipe: Recipe, folder: Path, bundle: Path, dataset: Path) -> Stage:
    source = recipe.video.source
    shown = source if source is not None else dataset / "images" / recipe.report_split
    confidence = str(recipe.video.confidence)
    command = ("video", str(shown), "--model", str(bundle), "--out", str(folder / "video.mp4"))
    return Stage(
        "video",
        (*command, "--confidence", confidence),
        needs=("export",),
        sources=(source,) if source is not None else (),
        replaces=True,
    )


def _options(section: StrictModel) -> tuple[str, ...]:
    """Return a section's values as options, without those that were left out."""
    values: dict[str, Any] = section.model_dump(exclude_none=True)
    return tuple(word for key, value in values.items() for word in (f"--{key.replace('_', '-')}", str(value)))
