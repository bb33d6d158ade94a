"""What ``drivetl run`` does with a recipe of the kind ``comparison``."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import Reporter
from drivetl.verbs._recipe_paths import arms_at_home, sources_at_home
from drivetl.verbs._stages import begun, carry_out_all, check_train_settings, refuse_set_above

if TYPE_CHECKING:
    from drivetl.comparison_recipe import ComparisonRecipe

__all__ = ["carry_out_comparison"]


def carry_out_comparison(
    path: Path, document: dict[str, Any], out: Path, reporter: Reporter, jobs: int = 1
) -> tuple[Path, dict[str, Any], list[str]]:
    """Carry out a comparison; return the run's folder, the JSON of each stage's verb, and the lines for people.

    ``jobs`` is how many of its stages may run beside each other.

    Raises:
        ConfigError: the recipe or the settings of an arm do not fit, or a dataset or file is not there.
        DrivetlError: a stage failed, or another process is at work on the run.
    """
    from drivetl.comparison_recipe import ComparisonRecipe
    from drivetl.comparison_stages import comparison_stages
    from drivetl.config import parse_model
    from drivetl.yolo import resolve_weights

    plan = parse_model(ComparisonRecipe, document, str(path))
    plan = sources_at_home(plan, path)
    _check_settings(plan, path)
    plan = arms_at_home(plan, path)
    weights = resolve_weights(plan.weights).absolute()
    folder = out.absolute() / plan.name
    stages = comparison_stages(plan, folder, weights, path.absolute().parent)
    with begun(folder, json.loads(plan.model_dump_json())):
        results = carry_out_all(stages, folder, reporter, jobs)
        picture = _picture(plan, results, folder / "comparison.png")
    return folder, results, [*_summary(plan, results), *picture]


def _check_settings(plan: ComparisonRecipe, path: Path) -> None:
    """Find every problem of every arm before the first of them is trained."""
    from drivetl.adapt.plain import check_plain_settings

    for arm in plan.arms:
        trainer = plan.trainer(arm)
        if trainer not in ("drivetl", "ultralytics"):
            raise ConfigError(
                f"{quoted(path)}, arm {arm}: the trainer is drivetl or ultralytics, not {quoted(trainer)}"
            )
        where = f"{path}, arm {arm}"
        if trainer == "drivetl":
            check_train_settings(plan.settings(arm), where)
        else:
            refuse_set_above(plan.settings(arm), where)
            check_plain_settings(plan.settings(arm), where)


def _summary(plan: ComparisonRecipe, results: dict[str, Any]) -> list[str]:
    """Return the tables: every arm on every set of pictures, then every pair with its interval."""
    from drivetl.comparison_stages import labels_of, runs_by_seed, runs_of, zero_shot_runs

    lines: list[str] = []
    for label in labels_of(plan):
        first = [results[f"{name}_{label}"] for name in zero_shot_runs(plan, label)]
        lines += ["", _heading(plan, label, sum(entry["images"] for entry in first))]
        # The start has no seeds, and what its folds differ by is the pictures.
        lines.append(f"  {'zero-shot':<28}  {_spread([_mean([entry['map50_95'] for entry in first])])}")
        for arm in plan.arms:
            for suffix, words in (("", arm), ("_alone", f"{arm}, not mixed with the start")):
                seeds = [[f"{name}{suffix}_{label}" for name in names] for names in runs_by_seed(plan, arm)]
                if seeds[0][0] in results:
                    means = [_mean([results[name]["map50_95"] for name in names]) for names in seeds]
                    lines.append(f"  {words:<28}  {_spread(means)}")
        for pair in plan.compare:
            lines += _pair_lines(pair.before, pair.after, results[f"compare_{pair.before}_{pair.after}_{label}"])
    lines += ["", "Training time of one run in seconds, selection included; ± over all runs:"]
    for arm in plan.arms:
        lines.append(f"  {arm:<28}  {_spread([results[f'train_{name}']['seconds'] for name in runs_of(plan, arm)], 0)}")
    return lines


def _heading(plan: ComparisonRecipe, label: str, pictures: int) -> str:
    from drivetl.comparison_recipe import TARGET

    where = f"{label}: {pictures} pictures"
    what = "mAP50-95 over all classes"
    if plan.folds is not None:
        where += f" in {plan.folds.count} folds" if label == TARGET else ""
        what += f", mean of {plan.folds.count} folds"
    seeds = len(plan.seeds)
    return f"{where}, {what}, {'1 seed' if seeds == 1 else f'{seeds} seeds (±: standard deviation over them)'}"


def _mean(measured: list[float | None]) -> float | None:
    values = [value for value in measured if value is not None]
    return statistics.mean(values) if values else None


def _picture(plan: ComparisonRecipe, results: dict[str, Any], target: Path) -> list[str]:
    """Draw what every compared arm gained or lost; return the line that says where, none without comparisons."""
    from drivetl.comparison_stages import labels_of
    from drivetl.files import atomic_file
    from drivetl.report.forest import Difference, Panel, draw_forest

    if not plan.compare:
        return []
    panels = []
    for label in labels_of(plan):
        found = []
        for pair in plan.compare:
            figure = results[f"compare_{pair.before}_{pair.after}_{label}"]["headline"]["map50_95"]
            points = None if figure["difference"] is None else 100 * figure["difference"]
            ends = (100 * figure["interval"][0], 100 * figure["interval"][1]) if figure["interval"] else None
            found.append(Difference(f"{pair.after} − {pair.before}", points, ends))
        panels.append(Panel(label, found))
    title = f"{plan.name}: {plan.weights}, classes with {plan.min_boxes} boxes, {len(plan.seeds)} seeds"
    data = draw_forest(panels, title=title, unit="points of mAP50-95")
    with atomic_file(target, overwrite=True) as temporary:
        temporary.write_bytes(data)
    return ["", f"Picture: {target}"]


def _spread(measured: list[float | None], digits: int = 3) -> str:
    values = [value for value in measured if value is not None]
    if not values:
        return "no figure: the model has no class of the dataset"
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def _pair_lines(before: str, after: str, document: dict[str, Any]) -> list[str]:
    lines = []
    for key, words in (("all_classes", "all classes"), ("headline", f"classes with {document['min_boxes']} boxes")):
        figure = document[key]["map50_95"]
        if figure["difference"] is None:
            continue
        interval = figure["interval"]
        span = f", 95 % {interval[0]:+.3f} to {interval[1]:+.3f}" if interval else ""
        lines.append(f"  {after} - {before}, {words}: {figure['difference']:+.3f}{span}: {figure['verdict']}")
    return [*lines, *(f"    {note}" for note in document["notes"])]
