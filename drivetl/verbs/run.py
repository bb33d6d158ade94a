"""``drivetl run``: carry out a recipe end to end, and pick up where it stopped."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetl.errors import ConfigError, WeightsError, quoted
from drivetl.resources import resource_dir
from drivetl.verbs._comparison import carry_out_comparison
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._options import percent
from drivetl.verbs._recipe_paths import source_at_home, train_at_home
from drivetl.verbs._stages import begun, carry_out_all, check_train_settings
from drivetl.wording import counted

if TYPE_CHECKING:
    from drivetl.recipe import Recipe

__all__ = ["Carried", "carry_out_recipe", "register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("run")(run)


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a YAML file, or the name of a shipped one.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key.path=value; overrides the recipe, may be given again.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of runs; this one goes into its own below it.")] = Path(
        "runs"
    ),
    jobs: Annotated[
        int,
        typer.Option("--jobs", min=1, max=64, help="Stages of a comparison to run beside each other, each with a log."),
    ] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Carry out a recipe: import or render, check, measure, train, measure again, export, verify, bench, video, page.

    A recipe with ``kind: comparison`` trains several ways with several seeds and compares them; with --jobs beside
    each other, and then the seconds it reports are those of trainings that shared the machine.

    Run it again and it skips what is done and unchanged, and resumes what was interrupted.

    Example: drivetl run configs/clear_to_fog.yaml --set data.source=~/DAWN --set train.epochs=1
    """
    from drivetl.config import load_yaml, set_values

    reporter = Reporter("run", as_json)
    path = _recipe_path(recipe)
    document = set_values(load_yaml(path), settings or [])
    _refuse_training_recipe(path, document)
    if document.get("kind") == "comparison":
        folder, results, lines = carry_out_comparison(path, document, out, reporter, jobs)
        reporter.finish({"run": str(folder), "stages": results}, lines)
        return
    if jobs > 1:
        raise ConfigError(f"{quoted(path)} is no comparison: its stages follow one another; leave --jobs out")
    carried = carry_out_recipe(path, settings or [], lambda plan: out.absolute() / plan.name, reporter)
    reporter.finish({"run": str(carried.folder), "stages": carried.results}, carried.summary())


@dataclass(frozen=True, slots=True)
class Carried:
    """A recipe that was carried out.

    Attributes:
        folder: of the run.
        weights: name of the checkpoint that it started from.
        fell_back: whether those were the recipe's fallback.
        results: the JSON of each stage's verb.
    """

    folder: Path
    weights: str
    fell_back: bool
    results: dict[str, Any]

    def summary(self) -> list[str]:
        """Return the lines that end a run: accuracy before and after with its verdict, parity, latency, files."""
        verify, bench, video = (self.results[name] for name in ("verify", "bench", "video"))
        latency = bench["latency_ms"]["end_to_end"]
        return [
            *_accuracy(self.results),
            *_verdict(self.results),
            "",
            f"parity   scores within {verify['max_abs_diff_scores']:.1e}, "
            f"boxes within {verify['max_abs_diff_px']:.3f} px",
            f"latency  p50 {latency['p50']:.1f} ms, slowest {latency['max']:.1f} ms on {bench['provider']}",
            f"bundle   {self.folder / 'bundle'}",
            f"video    {self.folder / 'video.mp4'} ({counted(video['frames_out'], 'frame')})",
            f"page     {self.folder / 'page.html'}",
        ]


def carry_out_recipe(
    path: Path, settings: list[str], folder_of: Callable[[Recipe], Path], reporter: Reporter
) -> Carried:
    """Carry out the recipe in a file, or what is missing of it.

    Args:
        path: the YAML.
        settings: ``key.path=value`` assignments over it.
        folder_of: where the run's results go.
        reporter: told what happens.

    Raises:
        ConfigError: the recipe does not fit its schema, or a dataset or file that it names is not there.
        WeightsError: the weights are not on this machine, nor is the fallback.
        GateFailed, DrivetlError: see `begun` and `carry_out_all`.
    """
    from drivetl.config import load_yaml, parse_model, set_values
    from drivetl.recipe import Recipe
    from drivetl.recipe_stages import stages

    plan = source_at_home(parse_model(Recipe, set_values(load_yaml(path), settings), str(path)), path)
    check_train_settings(plan.train, f"{path}, section train")
    if plan.fallback is not None:
        check_train_settings(plan.fallback.train, f"{path}, section fallback.train")
        check_train_settings(plan.fallback.source_train, f"{path}, section fallback.source_train")
    weights, fell_back = _weights(plan, reporter)
    plan = train_at_home(plan, path, fell_back=fell_back)
    folder = folder_of(plan)
    plan = plan.fallen_back() if fell_back else plan
    document = {**json.loads(plan.model_dump_json()), "started_from": weights.name, "fell_back": fell_back}
    with begun(folder, document):
        results = carry_out_all(stages(plan, folder, weights, fell_back=fell_back), folder, reporter)
    return Carried(folder, weights.name, fell_back, results)


def _weights(plan: Recipe, reporter: Reporter) -> tuple[Path, bool]:
    """Return the checkpoint to start from, and whether it is the fallback's."""
    from drivetl.yolo import resolve_weights

    try:
        return resolve_weights(plan.weights).absolute(), False
    except WeightsError as error:
        if plan.fallback is None:
            raise
        try:
            weights = resolve_weights(plan.fallback.weights).absolute()
        except WeightsError as second:
            raise WeightsError(f"{error}. The fallback is not here either: {second}") from second
    reporter.say(
        f"There are no weights {plan.weights} on this machine, so {plan.fallback.weights} take their place, with a new "
        f"head that is first trained on {plan.fallback.source.preset}."
    )
    return weights, True


def _recipe_path(recipe: Path) -> Path:
    """Return the file; a bare name that is no file may be a shipped recipe."""
    shipped = resource_dir("configs") / f"{recipe.name.removesuffix('.yaml')}.yaml"
    bare = recipe == Path(recipe.name)
    return shipped if bare and not recipe.exists() and shipped.is_file() else recipe


def _refuse_training_recipe(path: Path, document: dict[str, Any]) -> None:
    """Say of settings for one training what they are, instead of listing all that a whole recipe has besides.

    Raises:
        ConfigError: the document is such a recipe.
    """
    if "train" in document and not document.keys() & {"name", "kind", "weights", "data", "scenes"}:
        raise ConfigError(
            f"{quoted(path)} is a training recipe: it says how to train and not on what; give it to: "
            f"drivetl train --recipe {shlex.quote(str(path))} --data DATASET --weights WEIGHTS --out FOLDER"
        )


def _accuracy(results: dict[str, Any]) -> list[str]:
    """Return the table of accuracy before and after, by class, and under the recipe's weather."""
    before, after = results["zero_shot"], results["adapted"]
    width = max(len("all classes"), *(len(name) for name in before["per_class"]))
    lines = [
        "",
        f"mAP50-95 on {counted(before['images'], 'held-out picture')}",
        f"{'class':<{width}}  boxes     before  adapted",
    ]
    for name, entry in before["per_class"].items():
        pair = f"{percent(entry['map50_95']):>9}  {percent(after['per_class'][name]['map50_95']):>7}"
        lines.append(f"{name:<{width}}  {entry['boxes']:>5}  {pair}")
    rows = [("all classes", before, after)]
    if "zero_shot_weather" in results:
        weather = results["weather"]["condition"]
        rows.append((f"in {weather}", results["zero_shot_weather"], results["adapted_weather"]))
    for name, one, other in rows:
        pair = f"{percent(one['map50_95']):>9}  {percent(other['map50_95']):>7}"
        lines.append(f"{name:<{width}}  {one['boxes']:>5}  {pair}")
    return lines


def _verdict(results: dict[str, Any]) -> list[str]:
    """Return what the paired comparison says of the difference: two figures alone look surer than they are."""
    before, compared = results["zero_shot"], results["compare"]
    if before["per_class"] and set(before["missing_classes"]) == before["per_class"].keys():
        return ["adapted against before: nothing to compare, before it had no class of the dataset"]
    figure = compared["headline"]["map50_95"]
    if figure["difference"] is None:
        return ["adapted against before: no box to compare them on"]
    interval, chance = figure["interval"], figure["p_value"]
    span = f", 95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}" if interval else ", no interval"
    sure = "" if chance is None else f", p {chance:.3f}"
    line = f"adapted against before: {figure['difference']:+.3f} mAP50-95{span}{sure}: {figure['verdict']}"
    return [line, *(f"  {note}" for note in compared["notes"])]
