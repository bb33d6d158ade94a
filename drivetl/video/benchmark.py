"""What everything around the network costs: ``drivetl video`` beside the bare session and beside ``yolo predict``.

``python -m drivetl.video.benchmark highway-day.mp4 --model BUNDLE`` times, in turn and several times, on one video:

- the bare session: ONNX Runtime alone on a tensor that never changes, while another process keeps one core busy;
- drivetl: the whole run, reading, tracking, drawing and writing H.264 included, after the first frame;
- yolo predict (where Ultralytics is installed): the same graph and threads, with saving, after the first frame; with
  ``--exported FILE.onnx`` too on the graph that ``yolo export`` made of the same weights.

It prints a table and then one JSON document. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drivetl.errors import DrivetlError, VideoError, quoted
from drivetl.runtime import Detector
from drivetl.video.pipeline import run_video
from drivetl.video.settings import Model, Outputs, VideoSettings

__all__ = ["compare_speed", "main"]

_WARM_UP = 10


def compare_speed(
    video: str,
    bundle: Path,
    *,
    threads: int = 1,
    repeats: int = 2,
    frames: int = 200,
    exported: Path | None = None,
) -> dict[str, float]:
    """Return frames a second of ``bare session``, ``drivetl`` and, where it is installed, ``yolo predict``.

    Args:
        video: a file of at least ``frames`` frames.
        bundle: the model.
        threads: of ONNX Runtime's operators, everywhere.
        repeats: each is timed so often, in turn; the median counts.
        frames: runs of the bare session.
        exported: what ``yolo export`` made of the same weights; then ``yolo, own export`` is timed too.
    """
    detector = Detector(bundle, threads=threads)
    rivals: dict[str, Callable[[], float]] = {
        "bare session": lambda: _bare(detector, frames),
        "drivetl": lambda: _drivetl(video, detector),
    }
    # Ultralytics feeds float tensors only.
    if importlib.util.find_spec("ultralytics") is not None and detector.contract.input_dtype == "float32":
        rivals["yolo predict"] = lambda: _yolo(video, bundle / "model.onnx", detector, threads)
        if exported is not None:
            rivals["yolo, own export"] = lambda: _yolo(video, exported, detector, threads)
    rates: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repeats):
        for name, rival in rivals.items():
            rates[name].append(rival())
    return {name: statistics.median(found) for name, found in rates.items()}


def _bare(detector: Detector, frames: int) -> float:
    contract = detector.contract
    tensor = np.random.default_rng(0).random(contract.input_shape, np.float32)
    if contract.input_dtype == "uint8":
        tensor = (255 * tensor).astype(np.uint8)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for _ in range(_WARM_UP):
            detector.infer(tensor)
        begun_s = time.perf_counter()
        for _ in range(frames):
            detector.infer(tensor)
        return frames / (time.perf_counter() - begun_s)
    finally:
        busy.kill()
        busy.wait()


def _drivetl(video: str, detector: Detector) -> float:
    with tempfile.TemporaryDirectory() as folder:
        outputs = Outputs(Path(folder) / "out.mp4", Path(folder) / "detections.jsonl")
        return run_video(video, [Model(detector, "benchmark")], outputs, VideoSettings()).fps


def _yolo(video: str, onnx: Path, detector: Detector, threads: int) -> float:
    size = [str(side) for side in detector.contract.input_size_hw]
    with tempfile.TemporaryDirectory() as folder:
        words = [str(onnx), video, folder, "--threads", str(threads), "--imgsz", *size]
        done = subprocess.run(
            [sys.executable, "-m", "drivetl.yolo.predict_speed", *words], capture_output=True, text=True, check=False
        )
    if done.returncode:
        reason = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise VideoError(f"yolo predict cannot run {quoted(onnx)} on {quoted(video)}: {reason}")
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["frames"] / found["seconds"])


def main() -> None:
    """Read the arguments, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--exported", type=Path, help="the .onnx file that `yolo export` made of the same weights")
    given = parser.parse_args()
    if given.exported is not None and not given.exported.is_file():
        parser.error(f"--exported {quoted(given.exported)} is no file; make it with `yolo export format=onnx`")
    try:
        rates = compare_speed(
            given.video, given.model, threads=given.threads, repeats=given.repeats, exported=given.exported
        )
    except DrivetlError as error:
        parser.error(str(error))
    print(f"{given.video}, {given.threads} thread(s), {os.cpu_count()} cores, median of {given.repeats}")
    for name, rate in rates.items():
        print(f"{name:<17}{rate:>8.1f} frames/s{rates['drivetl'] / rate:>8.2f} times as fast is drivetl")
    print(json.dumps({"threads": given.threads, "cores": os.cpu_count(), "frames_per_s": rates}))


if __name__ == "__main__":
    main()
