"""``drivetl bench``: latency of a bundle against a budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drivetl.cores import load_sentence
from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._engine import EngineCacheOption, EngineWatch, refuse_idle_cache
from drivetl.verbs._options import ThreadsOption, require_picture
from drivetl.wording import counted

if TYPE_CHECKING:
    from drivetl.deploy import LatencyResult, Place
    from drivetl.deploy.tails import Percentiles

__all__ = ["register"]

_FRAMES = 300
_WARM_UP_FRAMES = 30


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
    float | None,
    typer.Option("--budget-ms", help="Milliseconds that the p99 end to end must keep to; of --predict: inference."),
]
_Image = Annotated[Path | None, typer.Option("--image", help="Picture to run on; default: a synthetic 1280x720 frame.")]
_Iterations = Annotated[int | None, typer.Option("--iterations", min=1, help="Frames to time; default: 300.")]
_WarmUp = Annotated[int | None, typer.Option("--warm-up", min=0, help="Frames before, untimed; default: 30.")]
_PacedHz = Annotated[
    float | None,
    typer.Option("--paced-hz", help="Also at the rate of a camera, with idle gaps: 30 for most; both must keep."),
]
_AgainstBare = Annotated[
    bool, typer.Option("--against-bare", help="Also compare inference with a bare session.run loop.")
]
_CudaGraph = Annotated[
    bool,
    typer.Option("--cuda-graph", help="Replay the network as one CUDA graph: with --provider cuda, fixed shapes."),
]
_Predict = Annotated[
    str | None,
    typer.Option("--predict", help="Instead, estimate inference on this profile's hardware, unmeasured."),
]
_Versus = Annotated[
    str | None,
    typer.Option(
        "--versus",
        metavar="ultralytics|FILE.onnx|BUNDLE",
        help="Instead, time the frame in turns with Ultralytics' path (CPU) on the bundle's graph or on the file that "
        "`yolo export` made, or with another bundle.",
    ),
]


def bench(
    bundle: _Bundle,
    provider: _Provider = None,
    profile: _Profile = None,
    budget_ms: _Budget = None,
    image: _Image = None,
    iterations: _Iterations = None,
    warm_up: _WarmUp = None,
    threads: ThreadsOption = None,
    paced_hz: _PacedHz = None,
    against_bare: _AgainstBare = False,
    cuda_graph: _CudaGraph = False,
    engine_cache: EngineCacheOption = None,
    versus: _Versus = None,
    predict: _Predict = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure latency stage by stage on the provider that really runs; exit status 1 over budget.

    Example: drivetl bench bundles/fog --profile x86-cpu --iterations 1000
    """
    from drivetl.deploy import Place, Sampling, load_profile
    from drivetl.deploy import bench as run

    reporter = Reporter("bench", as_json)
    frames = _FRAMES if iterations is None else iterations
    if image is not None:
        require_picture(image)
    how = {"--paced-hz": paced_hz, "--warm-up": warm_up, "--against-bare": against_bare, "--cuda-graph": cuda_graph}
    where = {"--provider": provider, "--threads": threads, "--engine-cache": engine_cache, "--image": image}
    if versus is not None:
        _refuse_beside("--versus", {"--predict": predict, "--profile": profile, "--budget-ms": budget_ms, **how})
        exported = Path(versus) if versus.endswith(".onnx") and not Path(versus).is_dir() else None
        if versus == "ultralytics" or exported is not None:
            _refuse_beside("--versus ultralytics", {"--engine-cache": engine_cache})
            _versus_ultralytics(reporter, bundle, exported, provider, image, threads, frames)
        else:
            refuse_idle_cache(provider, engine_cache)
            place = Place(provider, threads, engine_cache=engine_cache)
            _versus_bundle(reporter, bundle, Path(versus), place, image, frames)
        return
    if predict is not None:
        _refuse_beside("--predict", {"--profile": profile, "--iterations": iterations, **how, **where})
        _predict(reporter, bundle, predict, budget_ms)
        return
    asked = provider or (load_profile(profile).provider if profile is not None else None)
    refuse_idle_cache(asked, engine_cache)
    with reporter.measuring(), EngineWatch(reporter, asked, engine_cache) as watch:
        result = run(
            bundle,
            place=Place(provider, threads, cuda_graph, engine_cache),
            profile=profile,
            budget_ms=budget_ms,
            image=image,
            sampling=Sampling(frames, _WARM_UP_FRAMES if warm_up is None else warm_up, against_bare, paced_hz),
            progress=watch.progress,
        )
    reporter.gate(
        {"bundle": str(bundle), **result.document()}, _lines(result), result.passed, "; ".join(result.problems)
    )


def _predict(reporter: Reporter, bundle: Path, profile: str, budget_ms: float | None) -> None:
    from drivetl.deploy import predict

    with reporter.working():
        found = predict(bundle, profile, budget_ms)
    lines = [
        f"inference alone on {profile}, {found.precision}: about {found.estimate_ms:g} ms, "
        f"{found.low_ms:g} to {found.high_ms:g} ms (an estimate, not a measurement)"
    ]
    if found.fits is not None:
        whole = "" if found.budget_covers == "inference" else ", the profile's for all from picture to detections"
        lines.append(f"within {found.budget_ms:g} ms{whole}: {found.fits}")
    reporter.finish({"bundle": str(bundle), **found.document()}, lines)


def _refuse_beside(option: str, others: Mapping[str, object]) -> None:
    """Refuse options that another one would leave without effect."""
    given = [name for name, value in others.items() if value is not None and value is not False]
    if given:
        raise ConfigError(f"{option} has no use for {', '.join(given)}; leave out one or the other")


def _versus_bundle(
    reporter: Reporter,
    bundle: Path,
    other: Path,
    place: Place,
    image: Path | None,
    iterations: int,
) -> None:
    from drivetl.deploy import bench_beside

    with reporter.measuring(), EngineWatch(reporter, place.provider, place.engine_cache) as watch:
        result = bench_beside(bundle, other, place=place, image=image, iterations=iterations, progress=watch.progress)
    lines = [f"{'ms a frame':<13} {'A':>9} {'B':>9} {'B by A':>7}   by A in single blocks"]
    for name, row in result.stages.items():
        # Versus holds A by B; a reader asks how many times faster A is.
        figures = f"{row.ours_ms:>9.3f} {row.theirs_ms:>9.3f} {1 / row.ratio:>7.3f}"
        lines.append(f"{name:<13} {figures}   {1 / row.highest:.3f} to {1 / row.lowest:.3f}")
    for letter, path, precision, found in zip("AB", result.bundles, result.precision, result.detections, strict=True):
        lines.append(f"{letter}: {path}, {precision}, {counted(found, 'detection')}")
    lines.append(f"{result.frames} frames each on {result.provider}, picture {quoted(result.picture)}")
    lines += [*_load_lines(result.load), *_gpu_lines(result.machine["gpu"])]
    reporter.finish({"bundle": str(bundle), **result.document()}, lines)


def _versus_ultralytics(
    reporter: Reporter,
    bundle: Path,
    exported: Path | None,
    provider: str | None,
    image: Path | None,
    threads: int | None,
    iterations: int,
) -> None:
    from drivetl.deploy import versus_ultralytics

    if provider not in (None, "cpu"):
        raise ConfigError(f"--versus ultralytics compares on the CPU; leave --provider {provider} out")
    with reporter.measuring():
        result = versus_ultralytics(bundle, exported=exported, image=image, threads=threads or 0, iterations=iterations)
    height, width = result.picture_size_hw
    lines = [f"{'ms a frame':<13} {'ours':>9} {'Ultralytics':>12} {'ratio':>7}   ratio of single blocks"]
    for name, row in result.measures.items():
        figures = f"{row.ours_ms:>9.3f} {row.theirs_ms:>12.3f} {row.ratio:>7.3f}"
        lines.append(f"{name:<13} {figures}   {row.lowest:.3f} to {row.highest:.3f}")
    lines.append(
        f"{result.frames} frames each, picture {quoted(result.picture)} {width}x{height}, input "
        f"{result.input_size_hw[0]}x{result.input_size_hw[1]}; detections: ours {result.detections[0]}, "
        f"Ultralytics {result.detections[1]}; outside: everything except inference; Ultralytics ran {result.theirs}"
    )
    lines += _load_lines(result.load)
    reporter.finish({"bundle": str(bundle), **result.document()}, lines)


def _lines(result: LatencyResult) -> list[str]:
    machine, threads = result.machine, result.threads
    height, width = result.input_size_hw
    lines = [
        f"{result.provider} ({machine['cpu']}, {machine['usable_cores']} cores, "
        f"threads {threads['intra_op'] or 'auto'}), input {height}x{width} {result.precision}"
        f"{', one CUDA graph' if result.cuda_graph else ''}",
        *_gpu_lines(machine["gpu"]),
        *_table("back to back", result.latency_ms, result.tails, result.deadline_miss_rate),
        f"{result.throughput_hz:.1f} frames/s back to back; cold start {result.cold_start_ms:.0f} ms",
    ]
    if result.paced is not None:
        title = f"at {result.paced.rate_hz:g} Hz"
        lines += _table(title, result.paced.latency_ms, result.paced.tails, result.paced.deadline_miss_rate)
        lines.append(f"  {result.paced.lost} of {result.samples} frames were overtaken by a newer one and lost")
    picture_height, picture_width = result.picture_size_hw
    lines.append(
        f"{result.samples} frames after {result.warm_up} of warm-up, picture {quoted(result.picture)} "
        f"{picture_width}x{picture_height}, {counted(result.candidates, 'candidate')}, "
        f"{counted(result.detections, 'detection')}"
    )
    if not result.candidates:
        lines.append(
            "Nothing to postprocess in this picture: give one with traffic (--image) for a figure that counts."
        )
    if result.samples < 1000:
        lines.append("Fewer than 1,000 frames give no p99; with a budget, the slowest frame must keep to it.")
    if result.budget_ms is not None:
        lines.append(f"budget {result.budget_ms:g} ms")
    lines += _load_lines(result.load)
    lines += [f"warning: {warning}" for warning in result.warnings]
    if result.against_bare is not None:
        lines.append(f"inference against a bare session.run loop: {result.against_bare.ratio:.3f} times")
    return lines


def _load_lines(load: Mapping[str, Any]) -> list[str]:
    sentence = load_sentence(load)
    return [] if sentence is None else [sentence]


def _gpu_lines(gpu: Mapping[str, Any] | None) -> list[str]:
    """Return what a figure of a GPU depends on, in one line; none for a figure of a processor."""
    if gpu is None:
        return []
    states = gpu["before"], gpu["after"]
    if all(value is None for value in (gpu["driver"], *states[0].values(), *states[1].values())):
        return [f"GPU {gpu['name'] or 'unknown'}: nvidia-smi says nothing of its clocks, temperature and load here"]
    name, memory, driver, others = map(
        _known, (gpu["name"], gpu["memory_mib"], gpu["driver"], states[0]["utilisation_percent"])
    )
    clocks, heat = (" to ".join(_known(state[key]) for state in states) for key in ("sm_clock_mhz", "temperature_c"))
    reasons = states[1]["throttle_reasons"]
    slowed = _known(reasons and [reason for reason in reasons if reason != "gpu_idle"])
    return [
        f"GPU {name}, {memory} MiB, driver {driver}; from before to after SM {clocks} MHz, {heat} °C; "
        f"held back by {slowed}; {others} % used by others before"
    ]


def _known(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return "?" if value is None else str(value)


def _table(title: str, latency_ms: dict[str, Percentiles], tails: dict[str, Any], missed: float | None) -> list[str]:
    columns = {"p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "p99_9": "p99.9", "max": "max"}
    lines = [f"{title:<12} {' '.join(f'{head:>8}' for head in columns.values())}  ms"]
    for name, ms in latency_ms.items():
        values = (getattr(ms, column) for column in columns)
        lines.append(f"{name:<12} {' '.join('       –' if value is None else f'{value:>8.2f}' for value in values)}")
    for name, (low, high) in tails["intervals_ms"].items():
        lines.append(f"  {columns[name]:<6} end to end, 95 % interval {low:.2f} to {high:.2f}")
    if tails["jitter_ms"] is not None:
        lines.append(f"  jitter {tails['jitter_ms']:.2f} ms from frame to frame")
    if missed is not None:
        lines.append(f"  {missed:.2%} of the frames missed the budget")
    return lines
