"""``drivetl video``: run a bundle on a video, pictures, a camera or a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drivetl.errors import ConfigError, OutputError, quoted
from drivetl.verbs._console import SCHEMA_VERSION, JsonFlag, Reporter
from drivetl.verbs._engine import EngineCacheOption, EngineWatch, refuse_idle_cache
from drivetl.verbs._options import refuse_without
from drivetl.verbs._signals import Signalled, first_signal_noted

if TYPE_CHECKING:
    from drivetl.video import Model, Outputs, VideoResult, VideoSettings
    from drivetl.video.server import LivePage

__all__ = ["register"]

_HOST, _PORT = "127.0.0.1", 8470


def register(app: typer.Typer) -> None:
    """Add the verb ``video``."""
    app.command("video")(_video)


_Source = Annotated[
    str,
    typer.Argument(
        help="A video file, a folder or a list (.txt) of pictures, a camera index such as 0, or a URL (RTSP, HTTP)."
    ),
]
_Model = Annotated[Path, typer.Option("--model", help="The bundle to run.")]
_Compare = Annotated[Path | None, typer.Option("--compare", help="A second bundle, drawn to the right of the first.")]
_Out = Annotated[
    Path | None, typer.Option("--out", help="The annotated video: .mp4, .mov or .mkv. Without it: figures only.")
]
_Detections = Annotated[
    Path | None,
    typer.Option(
        "--detections",
        help="Write detections as JSON lines, one a frame; frames, tracks and pixels count from 0, as on the picture; "
        "'bridged': below --confidence for a moment.",
    ),
]
_Mot = Annotated[
    Path | None,
    typer.Option(
        "--mot",
        help="Write tracks as MOTChallenge text, bridged boxes too: frames, ids and pixels count from 1 (picture and "
        "--detections: from 0); without classes, and with --compare of the first model only.",
    ),
]
_Stills = Annotated[Path | None, typer.Option("--stills", help="A folder for pictures of the most interesting frames.")]
_StillCount = Annotated[
    int | None,
    typer.Option("--still-count", min=1, max=1000, help="With --stills: how many, 1 s or more apart; default: 6."),
]
_Stats = Annotated[Path | None, typer.Option("--stats", help="Write the statistics of the run as JSON.")]
_Confidence = Annotated[
    float | None,
    typer.Option(
        "--confidence",
        min=0,
        max=1,
        help="Threshold; default: the bundle's. A tracked object that was above it stays for half a second down to 0.4 "
        "of it.",
    ),
]
_Classes = Annotated[str | None, typer.Option("--classes", help="Only these classes of either model, as car,person.")]
_Track = Annotated[
    bool | None, typer.Option("--track/--no-track", help="Number the objects; default: if 'trackers' is installed.")
]
_Weather = Annotated[
    str | None, typer.Option("--weather", help="Lay weather over the video first, as fog:4 (condition:severity).")
]
_Provider = Annotated[
    Literal["cpu", "cuda", "tensorrt"], typer.Option("--provider", help="Where it must run; there is no fallback.")
]
_Threads = Annotated[int, typer.Option("--threads", min=0, max=1024, help="CPU threads; 0: ONNX Runtime's choice.")]
_Show = Annotated[bool, typer.Option("--show", help="Also open a window; the key q ends the run.")]
_Serve = Annotated[bool, typer.Option("--serve", help="Also serve a live page; its address with a token is printed.")]
_Host = Annotated[
    str | None,
    typer.Option(
        "--host", help="With --serve: listen here; default: 127.0.0.1; others, as 0.0.0.0, open it to the network."
    ),
]
_Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="With --serve; default: 8470; 0: any free one.")
]
_Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many frames.")]
_PictureFps = Annotated[float, typer.Option("--picture-fps", min=0.1, max=240, help="Rate at which pictures play.")]
_MaxAgeMs = Annotated[
    float, typer.Option("--max-age-ms", min=1, help="Camera, stream: drop frames that waited longer.")
]
_ReconnectS = Annotated[
    float, typer.Option("--reconnect-s", min=0, help="Camera, stream: wait so long for one that is gone; 0: not.")
]
_AllowTruncated = Annotated[
    bool,
    typer.Option(
        "--allow-truncated", help="Use a damaged video as far as it can be read; leave out unreadable pictures."
    ),
]
_Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace --out, --detections, --mot, --stats, and stills that drivetl wrote."),
]


def _video(
    source: _Source,
    model: _Model,
    compare: _Compare = None,
    out: _Out = None,
    detections: _Detections = None,
    mot: _Mot = None,
    stills: _Stills = None,
    still_count: _StillCount = None,
    stats: _Stats = None,
    confidence: _Confidence = None,
    classes: _Classes = None,
    track: _Track = None,
    weather: _Weather = None,
    provider: _Provider = "cpu",
    threads: _Threads = 0,
    engine_cache: EngineCacheOption = None,
    show: _Show = False,
    serve: _Serve = False,
    host: _Host = None,
    port: _Port = None,
    limit: _Limit = None,
    picture_fps: _PictureFps = 10.0,
    max_age_ms: _MaxAgeMs = 100.0,
    reconnect_s: _ReconnectS = 60.0,
    allow_truncated: _AllowTruncated = False,
    overwrite: _Overwrite = False,
    json: JsonFlag = False,
) -> None:
    """Run a bundle on a video and write it with boxes, tracks, classes, confidence and a line of latency figures.

    Of a file every frame is used, of a camera or stream the newest. Ctrl-C, SIGTERM and SIGHUP finish the file (exit
    status 130, 143, 129), or end at once while the models open; Ctrl-C once more drops it.

    Example: drivetl video drive.mp4 --model bundles/fog --out drive-boxes.mp4
    """
    from drivetl.video import Outputs, VideoSettings

    refuse_without("--stills", stills is not None, {"--still-count": still_count})
    refuse_without("--serve", serve, {"--host": host, "--port": port})
    refuse_idle_cache(provider, engine_cache)
    outputs = Outputs(out, detections, mot, stills, overwrite)
    settings = VideoSettings(
        confidence=confidence,
        classes=_names(classes),
        track=track,
        weather=weather,
        show=show,
        limit=limit,
        picture_fps=picture_fps,
        allow_truncated=allow_truncated,
        max_age_ms=max_age_ms,
        reconnect_s=reconnect_s,
        **({} if still_count is None else {"stills": still_count}),
    )
    bundles = [path for path in (model, compare) if path is not None]
    address = (_HOST if host is None else host, _PORT if port is None else port) if serve else None
    job = _Job(source, bundles, outputs, settings, stats, provider, threads, engine_cache, address)
    _carry_out(job, Reporter("video", json))


def _names(text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if text is not None and not names:
        raise ConfigError(f"--classes {quoted(text)} names none; give some, such as car,person, or leave it out")
    return names


@dataclass(frozen=True, slots=True)
class _Job:
    """The command line, sorted; ``address``: of the live page, None without one."""

    source: str
    bundles: list[Path]
    outputs: Outputs
    settings: VideoSettings
    stats: Path | None
    provider: str
    threads: int
    engine_cache: Path | None
    address: tuple[str, int] | None


def _carry_out(job: _Job, reporter: Reporter) -> None:
    from drivetl.video import Around, run_video
    from drivetl.video.outputs import check_outputs
    from drivetl.video.sources import check_source

    outputs = job.outputs
    # Here already, before seconds go into opening the models; so is the port taken.
    check_source(job.source)
    check_outputs(outputs, job.source, job.settings.track, bundles=job.bundles, stats=job.stats)
    with first_signal_noted() as stopped:
        with reporter.working():
            with _page(job.address, reporter) as page:
                models = _models(job, reporter, stopped)
                around = Around(stopped, reporter.progress, reporter.say, page)
                result = run_video(job.source, models, outputs, job.settings, around)
            document = _document(result, job.provider, outputs.video)
            _write_stats(job.stats, document, outputs.overwrite)
        written = _written(outputs.detections, outputs.mot, job.stats, *result.stills)
        _finish(reporter, document, [*_lines(result, job.provider, outputs.video), *written], stopped.signal)


def _finish(reporter: Reporter, document: dict[str, Any], lines: list[str], number: int) -> None:
    """Write the result; exit with 128 + the signal that stopped the run, which leaves a whole file all the same.

    Whoever closes the window ends the run as it is meant to end.
    """
    reporter.finish(document, lines)
    if number and document["interrupted"]:  # not where it came after the last frame
        raise typer.Exit(128 + number)


def _written(*paths: Path | None) -> list[str]:
    return [str(path) for path in paths if path is not None]


def _write_stats(target: Path | None, document: dict[str, Any], overwrite: bool) -> None:
    from drivetl.files import write_json

    if target is None:
        return
    try:
        write_json(target, {"schema_version": SCHEMA_VERSION, "verb": "video", **document}, overwrite=overwrite)
    except OutputError as error:
        raise OutputError(f"{error}. All other results are kept") from error


def _models(job: _Job, reporter: Reporter, stopped: Signalled) -> list[Model]:
    """Open the bundles; a signal ends that at once."""
    from drivetl.runtime import Detector
    from drivetl.video import Model

    def opened() -> list[Model]:
        return [
            Model(Detector(path, provider=job.provider, threads=job.threads, engine_cache=job.engine_cache), name)
            for path, name in zip(job.bundles, _model_names(job.bundles), strict=True)
        ]

    with EngineWatch(reporter, job.provider, job.engine_cache):
        return stopped.wait_for(opened)


def _model_names(bundles: Sequence[Path]) -> list[str]:
    """Return the names of the folders, with as many of those above as it takes to tell them apart."""
    places = [bundle.resolve() for bundle in bundles]
    if len(set(places)) == len(places):
        for count in range(1, max(len(place.parts) for place in places) + 1):
            names = [Path(*place.parts[-count:]).as_posix() for place in places]
            if len(set(names)) == len(names):
                return names
    return [place.name for place in places]


@contextmanager
def _page(address: tuple[str, int] | None, reporter: Reporter) -> Iterator[LivePage | None]:
    """Yield the live page, once its address is printed; None where none is wanted."""
    if address is None:
        yield None
        return
    from drivetl.video.server import LivePage

    with LivePage(*address) as page:
        if not page.local:
            reporter.say(
                f"note: everybody who reaches {page.reachable} and has the token can watch; it travels unencrypted"
            )
        reporter.say(f"live page: {page.url}")
        yield page


def _document(result: VideoResult, provider: str, out: Path | None) -> dict[str, Any]:
    return {
        "source": result.source,
        "out": None if out is None else str(out),
        "codec": result.codec,
        "size_wh": list(result.size_wh),
        "source_fps": result.source_fps,
        "frames_in": result.frames_in,
        "frames_out": result.frames_out,
        "dropped": result.dropped,
        "unreadable": result.unreadable,
        "interrupted": result.interrupted,
        "provider": provider,
        "fps": result.fps,
        "latency_ms": result.latency_ms,
        "per_class": result.per_class,
        "tracks": result.tracks,
        "compared": result.compared,
        "live": result.live,
        "stills": [str(path) for path in result.stills],
        "notes": list(result.notes),
    }


def _lines(result: VideoResult, provider: str, out: Path | None) -> list[str]:
    width, height = result.size_wh
    dropped = f" ({result.dropped} dropped)" if result.dropped else ""
    lines = [
        f"{result.frames_out} frames{dropped}, {width}x{height}, {result.fps:.1f} frames/s on {provider}, reading and "
        f"writing included",
        f"{'latency, ms':<14}{'p50':>8}{'p99':>8}",
    ]
    lines += [
        f"{stage.replace('_', ' '):<14}{figures['p50']:>8.1f}{figures['p99']:>8.1f}"
        for stage, figures in result.latency_ms.items()
    ]
    lines.append(f"detections over all frames: {_counts(result.per_class)}")
    if result.tracks is not None:
        lines.append(f"distinct objects: {_counts(result.tracks)}")
    if result.compared is not None:
        lines.append(f"{result.compared['model']} detects over all frames: {_counts(result.compared['per_class'])}")
    lines += [f"note: {note}" for note in result.notes]
    if result.interrupted:
        lines.append(f"stopped after {result.frames_out} frames")
    if out is not None:
        lines.append(f"{out} ({result.codec})")
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
