"""``drivetl bench``: latency of a bundle against a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drivetl.errors import quoted
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._options import ThreadsOption

if TYPE_CHECKING:
    from drivetl.deploy import LatencyResult

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("bench")(bench)


def bench(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder.")],
    provider: Annotated[
        Literal["cpu", "cuda", "tensorrt"] | None,
        typer.Option("--provider", help="Where it must run; default: the profile's, else cpu. No fallback."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Hardware profile: a shipped name such as x86-cpu, or a YAML file.")
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option("--budget-ms", help="Milliseconds that the p99 end to end must keep to.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Picture to run on; default: a synthetic 1280x720 frame.")
    ] = None,
    iterations: Annotated[int, typer.Option("--iterations", min=1, help="Frames to time.")] = 300,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help="Frames before, untimed.")] = 30,
    threads: ThreadsOption = None,
    against_bare: Annotated[
        bool, typer.Option("--against-bare", help="Also compare inference with a bare session.run loop.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure latency stage by stage on the provider that really runs; exit status 1 over budget.

    Example: drivetl bench bundles/fog --profile x86-cpu --iterations 1000
    """
    from drivetl.deploy import Sampling
    from drivetl.deploy import bench as run

    reporter = Reporter("bench", as_json)
    with reporter.measuring():
        result = run(
            bundle,
            provider=provider,
            profile=profile,
            budget_ms=budget_ms,
            image=image,
            sampling=Sampling(iterations=iterations, warm_up=warm_up, against_bare=against_bare),
            threads=threads,
        )
    reporter.gate(
        {"bundle": str(bundle), **result.document()}, _lines(result), result.passed, "; ".join(result.problems)
    )


def _lines(result: LatencyResult) -> list[str]:
    machine, threads = result.machine, result.threads
    height, width = result.input_size_hw
    lines = [
        f"{result.provider} ({machine['cpu']}, {machine['usable_cores']} cores, "
        f"threads {threads['intra_op'] or 'auto'}), input {height}x{width} {result.precision}",
        f"{'ms':<12} {'p50':>8} {'p90':>8} {'p95':>8} {'p99':>8} {'max':>8}",
    ]
    for name, ms in result.latency_ms.items():
        row = " ".join(f"{value:>8.2f}" for value in (ms.p50, ms.p90, ms.p95, ms.p99, ms.max))
        lines.append(f"{name:<12} {row}")
    picture_height, picture_width = result.picture_size_hw
    lines.append(
        f"{result.samples} frames after {result.warm_up} of warm-up, picture {quoted(result.picture)} "
        f"{picture_width}x{picture_height}, {result.candidates} candidates, {result.detections} detections"
    )
    if not result.candidates:
        lines.append(
            "Nothing to postprocess in this picture: give one with traffic (--image) for a figure that counts."
        )
    if result.samples < 1000:
        lines.append("Fewer than 1,000 frames: take the p99 as an indication.")
    if result.budget_ms is not None:
        lines.append(f"budget {result.budget_ms:g} ms: {result.deadline_miss_rate:.2%} of the frames missed it")
    if result.against_bare is not None:
        lines.append(f"inference against a bare session.run loop: {result.against_bare.ratio:.3f} times")
    return lines
