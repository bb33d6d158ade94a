"""A recipe that compares ways to train: arms × seeds, each measured on the same pictures, each pair with an interval.

It is the other kind of recipe that ``drivetl run`` carries out, and like the first it comes down to verbs that a
person could type: import, train, evaluate, compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from drivetl.config import StrictModel
from drivetl.recipe import Stage

__all__ = ["ZERO_SHOT", "ComparisonRecipe", "comparison_stages"]

# The name of the start itself, untouched, among the arms.
ZERO_SHOT = "zero_shot"


class SourceStage(StrictModel):
    """Import of a published dataset; see ``drivetl data import``."""

    format: Literal["kitti", "bdd100k", "nuimages", "cityscapes", "coco", "voc", "yolo"]
    source: Path
    card: str | None = None
    names: str | None = None
    split_names: str | None = None
    val: float = Field(default=0.0, ge=0.0, le=0.9)


class ReportStage(StrictModel):
    """Pictures that every arm is measured on."""

    data: str
    split: str


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
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    sources: dict[str, SourceStage]
    train_on: tuple[str, ...] = Field(min_length=1)
    report_on: dict[str, ReportStage] = Field(min_length=1)
    min_boxes: int = Field(default=20, ge=1, description="boxes that a class of the headline needs")
    train: dict[str, Any] = Field(default_factory=dict, description="settings of drivetl train that all arms share")
    arms: dict[str, dict[str, Any]] = Field(min_length=1, description="arm → its own settings")
    compare: tuple[PairStage, ...] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> ComparisonRecipe:
        used = {*self.train_on, *(report.data for report in self.report_on.values())}
        if missing := used - self.sources.keys():
            raise ValueError(f"{sorted(missing)[0]!r} is not among the sources: {', '.join(self.sources)}")
        arms = {ZERO_SHOT, *self.arms}
        for name in (name for pair in self.compare for name in (pair.before, pair.after)):
            if name not in arms:
                raise ValueError(f"there is no arm {name!r} to compare; arms: {', '.join(sorted(arms))}")
        return self


def comparison_stages(recipe: ComparisonRecipe, folder: Path, weights: Path, base: Path) -> list[Stage]:
    """Return the stages of a comparison in order.

    Args:
        recipe: what to compare.
        folder: where the run keeps its results.
        weights: the resolved checkpoint that every arm starts from.
        base: the recipe's own folder: a relative ``albumentations`` file lies there.
    """
    found = list(_imports(recipe, folder))
    found += _measured(recipe, folder, ZERO_SHOT, weights, ())
    for arm in recipe.arms:
        for seed in recipe.seeds:
            found += _trained(recipe, folder, weights, base, arm, seed)
    return [*found, *_compared(recipe, folder)]


def _imports(recipe: ComparisonRecipe, folder: Path) -> Iterator[Stage]:
    for name, source in recipe.sources.items():
        values = {"--card": source.card, "--names": source.names, "--split-names": source.split_names}
        options = [word for key, value in values.items() if value is not None for word in (key, value)]
        out = ("--out", str(folder / "data" / name), "--val", str(source.val))
        command = ("data", "import", source.format, str(source.source), *out, *options)
        yield Stage(f"import_{name}", command, sources=(source.source,), replaces=True, share=1)


def _trained(recipe: ComparisonRecipe, folder: Path, weights: Path, base: Path, arm: str, seed: int) -> Iterator[Stage]:
    name = f"{arm}_{seed}"
    settings = {**recipe.train, **recipe.arms[arm], "imgsz": recipe.imgsz, "device": recipe.device, "seed": seed}
    if recipe.threads is not None:
        settings["threads"] = recipe.threads
    files: tuple[Path, ...] = ()
    if settings.get("albumentations") is not None:
        files = (base / str(settings["albumentations"]),)
        settings["albumentations"] = str(files[0])
    data = tuple(word for source in recipe.train_on for word in ("--data", str(folder / "data" / source)))
    out = folder / name
    yield Stage(
        f"train_{name}",
        ("train", *data, "--weights", str(weights), "--out", str(out), "--no-figures"),
        needs=tuple(f"import_{source}" for source in recipe.train_on),
        sources=(weights, *files),
        replaces=True,
        resumes=True,
        share=20,
        settings=settings,
    )
    yield from _measured(recipe, folder, name, out / "weights" / "adapted.pt", (f"train_{name}",))
    if float(settings.get("wise_ft", 1.0)) < 1:
        yield from _measured(recipe, folder, f"{name}_alone", out / "weights" / "alone.pt", (f"train_{name}",))


def _measured(
    recipe: ComparisonRecipe, folder: Path, name: str, weights: Path, needs: tuple[str, ...]
) -> Iterator[Stage]:
    threads = () if recipe.threads is None else ("--threads", str(recipe.threads))
    for label, report in recipe.report_on.items():
        yield Stage(
            f"{name}_{label}",
            (
                *("evaluate", str(weights), "--data", str(folder / "data" / report.data), "--split", report.split),
                *("--imgsz", str(recipe.imgsz), "--device", recipe.device, *threads),
                *("--predictions", str(_predictions(folder, name, label))),
            ),
            needs=(f"import_{report.data}", *needs),
            sources=() if needs else (weights,),
            replaces=True,
            share=3,
        )


def _predictions(folder: Path, name: str, label: str) -> Path:
    return folder / "predictions" / f"{name}_{label}.json"


def _runs(recipe: ComparisonRecipe, arm: str) -> tuple[str, ...]:
    """Return the names under which an arm was measured: one for each seed."""
    return (ZERO_SHOT,) if arm == ZERO_SHOT else tuple(f"{arm}_{seed}" for seed in recipe.seeds)


def _compared(recipe: ComparisonRecipe, folder: Path) -> Iterator[Stage]:
    for pair in recipe.compare:
        for label, report in recipe.report_on.items():
            before, after = (_runs(recipe, arm) for arm in (pair.before, pair.after))
            sides = [("--before", name) for name in before] + [("--after", name) for name in after]
            files = [word for side, name in sides for word in (side, str(_predictions(folder, name, label)))]
            data = ("--data", str(folder / "data" / report.data), "--min-boxes", str(recipe.min_boxes))
            needs = tuple(f"{name}_{label}" for name in (*before, *after))
            yield Stage(f"compare_{pair.before}_{pair.after}_{label}", ("compare", *data, *files), needs=needs, share=1)
