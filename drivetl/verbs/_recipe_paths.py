"""Paths that a recipe names: ``~``, which a shell leaves alone in YAML and after ``--set key=``, is expanded, and what
is not there is refused before the first stage; the stage that reads it may come hours later.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.errors import ConfigError, printable_source, quoted
from drivetl.files import expanded

if TYPE_CHECKING:
    from drivetl.comparison_recipe import ComparisonRecipe
    from drivetl.recipe import Recipe, TrainSettings

__all__ = ["arms_at_home", "source_at_home", "sources_at_home", "train_at_home"]


def source_at_home(plan: Recipe, path: Path) -> Recipe:
    """Make the paths absolute from which a recipe imports and shows; ``path`` is the recipe's own.

    Raises:
        ConfigError: one of them does not exist.
    """
    changes: dict[str, Any] = {}
    if plan.data is not None:
        changes["data"] = plan.data.model_copy(update={"source": _source(plan.data.source, "data.source", path)})
    if plan.video.source is not None:
        video = expanded(plan.video.source).absolute()
        if not (video.is_file() or video.is_dir()):
            raise ConfigError(
                f"{quoted(path)}: video.source is {quoted(printable_source(str(plan.video.source)))}, and there is no "
                "such file or folder; a recipe shows one of these and no camera or stream, which need not end: "
                "--set video.source=PATH"
            )
        changes["video"] = plan.video.model_copy(update={"source": video})
    return plan.model_copy(update=changes)


def train_at_home(plan: Recipe, path: Path, *, fell_back: bool) -> Recipe:
    """Make the paths in the sections of training absolute that the recipe will use; see `source_at_home`.

    Raises:
        ConfigError: one of them does not exist.
    """
    if not fell_back or plan.fallback is None:
        return plan.model_copy(update={"train": _settings(plan.train, "train", path)})
    sections = {
        name: _settings(getattr(plan.fallback, name), f"fallback.{name}", path) for name in ("train", "source_train")
    }
    return plan.model_copy(update={"fallback": plan.fallback.model_copy(update=sections)})


def sources_at_home(plan: ComparisonRecipe, path: Path) -> ComparisonRecipe:
    """Make the paths absolute from which a comparison imports; see `source_at_home`.

    Raises:
        ConfigError: one of them does not exist.
    """
    sources = {
        name: own.model_copy(update={"source": _source(own.source, f"sources.{name}.source", path)})
        for name, own in plan.sources.items()
    }
    return plan.model_copy(update={"sources": sources})


def arms_at_home(plan: ComparisonRecipe, path: Path) -> ComparisonRecipe:
    """Make the paths in a comparison's settings of training absolute, of files from the recipe's own folder on.

    Raises:
        ConfigError: one of them does not exist, and is no source of the comparison where that would do.
    """
    arms = {
        arm: _settings(own, f"arms.{arm}", path, plan) if plan.trainer(arm) == "drivetl" else own
        for arm, own in plan.arms.items()
    }
    return plan.model_copy(update={"train": _settings(plan.train, "train", path, plan), "arms": arms})


def _source(given: Path, key: str, path: Path) -> Path:
    source = expanded(given).absolute()
    if not source.exists():
        raise ConfigError(
            f"{quoted(path)}: {key} is {quoted(source)}, which does not exist; "
            f"say where the dataset lies with --set {key}=FOLDER"
        )
    return source


def _settings(
    settings: TrainSettings, section: str, path: Path, comparison: ComparisonRecipe | None = None
) -> TrainSettings:
    from drivetl.recipe import TRAIN_DATASETS, TRAIN_FILES

    changes = {}
    for key in (*TRAIN_FILES, *TRAIN_DATASETS):
        value = "" if settings.get(key) is None else str(settings[key])
        if not value or (comparison is not None and key in TRAIN_DATASETS and value in comparison.sources):
            continue
        base = path.parent if comparison is not None and key in TRAIN_FILES else Path()
        place = (base / expanded(value)).absolute()
        if not (place.is_file() if key in TRAIN_FILES else place.exists()):
            raise ConfigError(_missing(place, f"{section}.{key}", value, path, comparison))
        changes[key] = str(place)
    return {**settings, **changes}


def _missing(place: Path, key: str, value: str, path: Path, comparison: ComparisonRecipe | None) -> str:
    from drivetl.recipe import TRAIN_FILES

    remedy = f"say where it lies with --set {key}=PATH"
    if key.rpartition(".")[2] in TRAIN_FILES:
        return f"{quoted(path)}: {key} is {quoted(place)}, and there is no such file; {remedy}"
    if comparison is None:
        return f"{quoted(path)}: {key} is {quoted(place)}, which does not exist; {remedy}"
    names = ", ".join(comparison.sources)
    return (
        f"{quoted(path)}: {key} is {quoted(value)}, which is neither a source of the comparison ({names}) nor a path "
        f"that exists; name one of them, or {remedy}"
    )
