"""Does memory stay constant on a long video? ``drivetl video`` with every output, and its memory on the way.

``python -m drivetl.video.memory highway-day.mp4 --model BUNDLE --frames 10000`` plays one video over and over until
there are so many frames, and reads the resident memory of the process every 500 of them. It prints the curve, and then
one JSON document with the growth after the first 500. Linux only, because that is where the memory is read.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2

from drivetl.errors import DrivetlError, VideoError, quoted
from drivetl.runtime import Detector
from drivetl.video.pipeline import run_video
from drivetl.video.settings import Around, Model, Outputs, VideoSettings

__all__ = ["main", "memory_curve"]

_EVERY = 500
_STATUS = Path("/proc/self/status")
_KIB_A_MIB = 1024


def memory_curve(
    video: Path,
    bundle: Path,
    *,
    frames: int,
    threads: int = 1,
    every: int = _EVERY,
    say: Callable[[str], None] = lambda text: None,
) -> dict[int, float]:
    """Return the resident memory in MiB after every so many frames of a run with all outputs.

    Args:
        video: a file; it is played over and over.
        bundle: the model.
        frames: how many to run, at least ``every``.
        threads: of ONNX Runtime's operators.
        every: frames between two readings.
        say: told each reading as it is taken.

    Raises:
        VideoError: the video cannot be read, or its repetition cannot be written.
        BundleError: the bundle cannot be used.
    """
    curve: dict[int, float] = {}

    def note(label: str, done: int, total: int | None) -> None:
        if done and done % every == 0:
            curve[done] = resident_mib()
            say(f"{done:>7} frames {curve[done]:>8.1f} MiB")

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        long = _repeated(video, frames, folder / "long.mp4")
        outputs = Outputs(folder / "out.mp4", folder / "found.jsonl", folder / "tracks.txt", folder / "stills")
        model = Model(Detector(bundle, threads=threads), "memory")
        run_video(str(long), [model], outputs, VideoSettings(), Around(progress=note))
    return curve


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / _KIB_A_MIB


def _repeated(video: Path, frames: int, target: Path) -> Path:
    """Write a video of so many frames by playing another one over and over."""
    capture = cv2.VideoCapture(str(video))
    there, image_bgr = capture.read()
    if not there:
        raise VideoError(f"{quoted(video)} holds no frame that can be decoded; give a video that plays")
    rate, (height, width) = capture.get(cv2.CAP_PROP_FPS) or 25.0, image_bgr.shape[:2]
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        raise VideoError(f"{quoted(target)} cannot be written by this OpenCV; install opencv-python")
    for _ in range(frames):
        writer.write(image_bgr)
        there, image_bgr = capture.read()
        if not there:
            capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            there, image_bgr = capture.read()
            if not there:
                raise VideoError(f"{quoted(video)} cannot be played a second time; give a file, not a stream")
    writer.release()
    capture.release()
    return target


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Read the arguments, run, print; exit status 2 where the input cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.frames < 2 * _EVERY:
        parser.error(f"--frames is {given.frames}; two readings need at least {2 * _EVERY}")
    try:
        curve = memory_curve(given.video, given.model, frames=given.frames, threads=given.threads, say=_say)
    except DrivetlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    first, *later = curve.values()
    print(json.dumps({"frames": given.frames, "mib": curve, "growth_mib": round(max(later) - first, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
