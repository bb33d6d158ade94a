"""``drivetl run``: carry out a recipe end to end, and pick up where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetl.errors import ConfigError, DrivetlError, GateFailed, quoted
from drivetl.files import write_json
from drivetl.resources import resource_dir
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._options import percent

if TYPE_CHECKING:
    from drivetl.recipe import Recipe, Stage

__all__ = ["register"]


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
    as_json: JsonFlag = False,
) -> None:
    """Carry out a recipe: import, check, measure, train, measure again, export, verify, bench, video.

    Run it again and it skips what is done and unchanged, and resumes what was interrupted.

    Example: drivetl run configs/clear_to_fog.yaml --set data.source=~/DAWN --set train.epochs=1
    """
    from drivetl.config import load_yaml, parse_model, set_values
    from drivetl.recipe import Recipe, stages
    from drivetl.yolo import resolve_weights

    reporter = Reporter("run", as_json)
    path = _recipe_path(recipe)
    plan = parse_model(Recipe, set_values(load_yaml(path), settings or []), str(path))
    plan = _at_home(plan)
    if not plan.data.source.exists():
        raise ConfigError(
            f"{quoted(path)}: data.source is {quoted(plan.data.source)}, which does not exist; "
            f"say where the dataset lies with --set data.source=FOLDER"
        )
    weights = resolve_weights(plan.weights).absolute()
    folder = out.absolute() / plan.name
    write_json(folder / "recipe.json", json.loads(plan.model_dump_json()), overwrite=True)
    keys: dict[str, str] = {}
    results: dict[str, Any] = {}
    for stage in stages(plan, folder, weights):
        results[stage.name] = _carry_out(stage, folder, keys, reporter)
    document = {"run": str(folder), "stages": results}
    reporter.finish(document, _summary(results, folder))


def _recipe_path(recipe: Path) -> Path:
    """Return the file; a name that is no file may be a shipped recipe."""
    shipped = resource_dir("configs") / f"{recipe.name.removesuffix('.yaml')}.yaml"
    return shipped if not recipe.exists() and shipped.is_file() else recipe


def _at_home(plan: Recipe) -> Recipe:
    """Expand ``~``, which the shell leaves alone in ``--set data.source=~/…``, and make paths absolute."""
    source = plan.data.source.expanduser().absolute()
    data = plan.data.model_copy(update={"source": source})
    video = plan.video
    if video.source is not None:
        video = video.model_copy(update={"source": video.source.expanduser().absolute()})
    return plan.model_copy(update={"data": data, "video": video})


def _carry_out(stage: Stage, folder: Path, keys: dict[str, str], reporter: Reporter) -> Any:
    """Run one stage unless its result is there and unchanged; return the JSON of its verb."""
    keys[stage.name] = key = stage.key(keys)
    result_file = folder / f"{stage.name}.json"
    started_file = folder / f"{stage.name}.started"
    recorded = _read(result_file)
    if recorded is not None and recorded.get("key") == key:
        reporter.say(f"{stage.name}: done before, unchanged")
        return recorded["result"]
    command = list(stage.command)
    if stage.resumes and started_file.is_file() and started_file.read_text(encoding="utf-8") == key:
        command.append("--resume")
    elif stage.replaces:
        command.append("--overwrite")
    started_file.write_text(key, encoding="utf-8")
    reporter.say(f"{stage.name}: drivetl {' '.join(command)}")
    began = time.monotonic()
    result = _call(stage, command, reporter)
    write_json(
        result_file,
        {"key": key, "command": ["drivetl", *command], "seconds": round(time.monotonic() - began, 1), "result": result},
        overwrite=True,
    )
    started_file.unlink()
    return result


def _read(path: Path) -> dict[str, Any] | None:
    """Return a stage's recorded result; None if there is none, or if it is damaged and must be made again."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and "result" in document else None


def _call(stage: Stage, command: list[str], reporter: Reporter) -> Any:
    """Run one verb in a child process; its progress goes to our stderr, its JSON comes back."""
    with subprocess.Popen([sys.executable, "-m", "drivetl", *command, "--json"], stdout=subprocess.PIPE) as child:
        try:
            output = child.communicate()[0]
        except KeyboardInterrupt:
            # The terminal sends Ctrl-C to the child too; it leaves a resumable state and ends by itself.
            child.wait()
            raise
    if child.returncode == 0:
        return json.loads(output)
    if child.returncode == 130:
        raise KeyboardInterrupt
    if child.returncode == GateFailed.exit_status:
        for problem in json.loads(output).get("problems", []):
            reporter.say(f"  {problem}" if isinstance(problem, str) else f"  {problem['file']}: {problem['message']}")
        raise GateFailed(
            f"the stage {quoted(stage.name)} did not pass, and the recipe stops there: see the lines above"
        )
    raise DrivetlError(f"the stage {quoted(stage.name)} ended with status {child.returncode}: see the lines above")


def _summary(results: dict[str, Any], folder: Path) -> list[str]:
    """Return the lines that end a run: accuracy before and after, parity, latency, where everything lies."""
    before, after = results["zero_shot"], results["adapted"]
    width = max(len("all classes"), *(len(name) for name in before["per_class"]))
    lines = ["", f"mAP50-95 on {before['images']} held-out pictures", f"{'class':<{width}}  boxes  zero-shot  adapted"]
    for name, entry in before["per_class"].items():
        pair = f"{percent(entry['map50_95']):>9}  {percent(after['per_class'][name]['map50_95']):>7}"
        lines.append(f"{name:<{width}}  {entry['boxes']:>5}  {pair}")
    pair = f"{percent(before['map50_95']):>9}  {percent(after['map50_95']):>7}"
    lines.append(f"{'all classes':<{width}}  {before['boxes']:>5}  {pair}")
    verify, bench, video = results["verify"], results["bench"], results["video"]
    latency = bench["latency_ms"]["end_to_end"]
    lines += [
        "",
        f"parity   scores within {verify['max_abs_diff_scores']:.1e}, boxes within {verify['max_abs_diff_px']:.3f} px",
        f"latency  p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms on {bench['provider']}",
        f"bundle   {folder / 'bundle'}",
        f"video    {folder / 'video.mp4'} ({video['frames_out']} frames)",
    ]
    return lines
