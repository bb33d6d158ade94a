"""``drivetl bench``: latency of a bundle against a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._options import ThreadsOption

if TYPE_CHECKING:
    from drivetl.deploy import LatencyResult

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("bench")(bench)


_Bundle = Annotated[Path, typer.Argument(help="The bundle folder.")]
_Provider = Annotated[
    Literal["cpu", "cuda", "tensorrt"] | None,
    typer.Option("--provider", help="Where it must run; default: the profile's, else cpu. No fallback."),
]
_Profile = Annotated[
    str | None, typer.Option("--profile", help="Hardware profile: a shipped name such as x86-cpu, or a YAML file.")
]
_Budget = Annotated[
    float | None, typer.Option("--budget-ms", help="Milliseconds that the p99 end to end must keep to.")
]
_Image = Annotated[Path | None, typer.Option("--image", help="Picture to run on; default: a synthetic 1280x720 frame.")]
_Iterations = Annotated[int, typer.Option("--iterations", min=1, help="Frames to time.")]
_WarmUp = Annotated[int, typer.Option("--warm-up", min=0, help="Frames before, untimed.")]
_AgainstBare = Annotated[
    bool, typer.Option("--against-bare", help="Also compare inference with a bare session.run loop.")
]
_Versus = Annotated[
    Literal["ultralytics"] | None,
    typer.Option("--versus", help="Instead, time the frame through Ultralytics' ONNX path beside ours, on the CPU."),
]


def bench(
    bundle: _Bundle,
    provider: _Provider = None,
    profile: _Profile = None,
    budget_ms: _Budget = None,
    image: _Image = None,
    iterations: _Iterations = 300,
    warm_up: _WarmUp = 30,
    threads: ThreadsOption = None,
    against_bare: _AgainstBare = False,
    versus: _Versus = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure latency stage by stage on the provider that really runs; exit status 1 over budget.

    Example: drivetl bench bundles/fog --profile x86-cpu --iterations 1000
    """
    from drivetl.deploy import Sampling
    from drivetl.deploy import bench as run

    reporter = Reporter("bench", as_json)
    if versus is not None:
        _refuse_beside_versus(provider, profile, budget_ms, against_bare)
        _versus(reporter, bundle, image, threads, iterations)
        return
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


def _refuse_beside_versus(
    provider: str | None, profile: str | None, budget_ms: float | None, against_bare: bool
) -> None:
    if provider not in (None, "cpu") or profile is not None or budget_ms is not None or against_bare:
        raise ConfigError(
            "--versus compares on the CPU and holds nothing against a budget; leave --provider, --profile, "
            "--budget-ms and --against-bare out"
        )


def _versus(reporter: Reporter, bundle: Path, image: Path | None, threads: int | None, iterations: int) -> None:
    from drivetl.deploy import versus_ultralytics

    with reporter.measuring():
        result = versus_ultralytics(bundle, image=image, threads=threads or 0, iterations=iterations)
    height, width = result.picture_size_hw
    lines = [f"{'ms a frame':<13} {'ours':>9} {'Ultralytics':>12} {'ratio':>7}   ratio of single blocks"]
    for name, row in result.measures.items():
        figures = f"{row.ours_ms:>9.3f} {row.theirs_ms:>12.3f} {row.ratio:>7.3f}"
        lines.append(f"{name:<13} {figures}   {row.lowest:.3f} to {row.highest:.3f}")
    lines.append(
        f"{result.frames} frames each, picture {quoted(result.picture)} {width}x{height}, input "
        f"{result.input_size_hw[0]}x{result.input_size_hw[1]}; detections: ours {result.detections[0]}, "
        f"Ultralytics {result.detections[1]}; outside: everything except inference"
    )
    reporter.finish({"bundle": str(bundle), **result.document()}, lines)


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
