"""``drivetl video``: run a bundle on a video, a folder of pictures, a camera or a stream."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter

if TYPE_CHECKING:
    from drivetl.video import VideoResult

__all__ = ["register"]

_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the verb ``video``."""
    app.command("video")(_video)


def _video(
    source: Annotated[
        str, typer.Argument(help="A video file, a folder of pictures, a camera index such as 0, or a URL.")
    ],
    model: Annotated[Path, typer.Option("--model", help="The bundle to run.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The annotated video: .mp4, .mov or .mkv. Without it: figures only.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", min=0, max=1, help="Least confidence; default: the bundle's.")
    ] = None,
    provider: Annotated[str, typer.Option("--provider", help="cpu, cuda or tensorrt; there is no fallback.")] = "cpu",
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0: ONNX Runtime's choice.")] = 0,
    show: Annotated[bool, typer.Option("--show", help="Also open a window; the key q ends the run.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many frames.")] = None,
    picture_fps: Annotated[
        float | None, typer.Option("--picture-fps", min=0.1, max=240, help="Rate of a folder of pictures; default: 10.")
    ] = None,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Use a damaged video as far as it can be read.")
    ] = False,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Run a bundle on a video and write it with boxes, classes, confidence and a line of latency figures.

    The frame rate and the size of the source are kept. A video that is cut off or damaged is refused, and nothing is
    written, unless --allow-truncated is given. Ctrl-C once finishes the file with the frames so far; twice drops it.

    Example: drivetl video drive.mp4 --model bundles/fog --out drive-boxes.mp4
    """
    from drivetl.runtime import Detector
    from drivetl.video import VideoSettings, run_video

    given = {} if picture_fps is None else {"picture_fps": picture_fps}
    settings = VideoSettings(confidence=confidence, show=show, limit=limit, allow_truncated=allow_truncated, **given)
    reporter = Reporter("video", json)
    with reporter.working(), _first_interrupt_noted() as stopped:
        detector = Detector(model, provider=provider, threads=threads)
        result = run_video(
            source,
            detector,
            out,
            settings,
            model_name=model.resolve().name,
            overwrite=overwrite,
            stopped=stopped,
            progress=reporter.progress,
        )
    reporter.finish(_document(result, detector.provider, out), _lines(result, detector.provider, out))
    if result.interrupted:
        raise typer.Exit(_INTERRUPTED)


@contextmanager
def _first_interrupt_noted() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed; a second Ctrl-C interrupts at once, as usual."""
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _document(result: VideoResult, provider: str, out: Path | None) -> dict[str, Any]:
    return {
        "out": None if out is None else str(out),
        "codec": result.codec,
        "size_wh": list(result.size_wh),
        "source_fps": result.source_fps,
        "frames_in": result.frames_in,
        "frames_out": result.frames_out,
        "dropped": result.dropped,
        "interrupted": result.interrupted,
        "provider": provider,
        "fps": result.fps,
        "latency_ms": result.latency_ms,
        "per_class": result.per_class,
        "notes": list(result.notes),
    }


def _lines(result: VideoResult, provider: str, out: Path | None) -> list[str]:
    width, height = result.size_wh
    lines = [
        f"{result.frames_out} frames, {width}x{height}, {result.fps:.1f} frames/s on {provider}, reading and writing "
        f"included",
        f"{'latency, ms':<14}{'p50':>8}{'p99':>8}",
    ]
    lines += [
        f"{stage.replace('_', ' '):<14}{figures['p50']:>8.1f}{figures['p99']:>8.1f}"
        for stage, figures in result.latency_ms.items()
    ]
    counts = ", ".join(f"{name} {count}" for name, count in result.per_class.items())
    lines.append(f"detections over all frames: {counts or 'none'}")
    lines += [f"note: {note}" for note in result.notes]
    if result.interrupted:
        lines.append(f"interrupted after {result.frames_out} frames")
    if out is not None:
        lines.append(f"{out} ({result.codec})")
    return lines
