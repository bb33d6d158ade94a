"""Run a drivetl bundle in a vehicle: self-test, then one JSON line for every frame, of a camera or stream the newest.

    python run_bundle.py BUNDLE --source 0 --provider tensorrt

Needs numpy, OpenCV, ONNX Runtime and drivetl.runtime (see requirements.txt beside this file). Before the first frame
the bundle's golden frames must give the detections that were recorded at export; otherwise it ends with status 1 and
detects nothing. The "dropped" of a line are the frames that came and went since the line before. Other exit states:
0 the source ended, 2 the bundle or the source cannot be used, a recording ends before its time, or the GPU fails.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from drivetl.containers import Container, inspect_container
from drivetl.errors import ConfigError, DrivetlError, GateFailed, VideoError, printable_source, quoted
from drivetl.file_url import without_file_url
from drivetl.runtime import PROVIDERS, Detections, Detector
from drivetl.runtime.requirements import missing_for
from drivetl.runtime.selftest import self_test

_STALLED_S = 5.0
_STOP_S = 0.5
# Of the length that a recording states: sound may outlast the pictures.
_WHOLE_SHARE = 0.9
_MOST_THREADS = 1024
# A longer number names no camera, and OpenCV would fail on it in its own words.
_CAMERA_DIGITS = 4


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except DrivetlError as error:
        print(f"run_bundle: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the lines has enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a drivetl bundle on a camera, a stream or a video file.")
    parser.add_argument("bundle", type=Path, help="the bundle folder")
    parser.add_argument(
        "--source",
        help="camera number, device, GStreamer pipeline, stream address or video file; without one: only the self-test",
    )
    parser.add_argument("--provider", choices=list(PROVIDERS), default="cpu", help="where it must run; no fallback")
    parser.add_argument(
        "--threads", type=_threads, default=0, help="CPU threads of one operator; 0: ONNX Runtime's choice"
    )
    parser.add_argument(
        "--engine-cache", type=Path, help="a folder for TensorRT's engines, which take minutes to build"
    )
    parser.add_argument("--cuda-graph", action="store_true", help="with CUDA: replay the network as one graph")
    parser.add_argument(
        "--budget-ms", type=_budget_ms, help="count the frames that take longer from picture to detections"
    )
    return parser


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= _MOST_THREADS):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no number from 0 to {_MOST_THREADS}")
    return int(text)


def _budget_ms(text: str) -> float:
    try:
        budget_ms = float(text)
    except ValueError:
        budget_ms = math.nan
    if not 0 < budget_ms < math.inf:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no positive number of milliseconds")
    return budget_ms


def _say_what_takes_minutes(provider: str, cache: Path | None) -> None:
    # Where it cannot run, the detector refuses it with the reason, and nothing is built.
    if provider == "tensorrt" and missing_for(provider) is None:
        kept = f"unless it lies in {quoted(cache)}" if cache else "at every start without --engine-cache FOLDER"
        print(f"run_bundle: TensorRT builds its engine now, {kept}; that may take minutes", file=sys.stderr, flush=True)
    elif provider != "tensorrt" and cache is not None:
        raise ConfigError(f"--engine-cache keeps engines of TensorRT, and {provider} has none; leave it out")


def _run(options: argparse.Namespace) -> None:
    _say_what_takes_minutes(options.provider, options.engine_cache)
    # One detector for both: what passes the test is what runs, and a TensorRT engine is built once.
    detector = Detector(
        options.bundle,
        provider=options.provider,
        threads=options.threads,
        engine_cache=options.engine_cache,
        cuda_graph=options.cuda_graph,
    )
    result = self_test(detector)
    _say({"self_test": result.document()})
    if not result.passed:
        raise GateFailed(
            f"{quoted(options.bundle)} does not find here what it found where it was exported "
            f"({result.missing} missing, {result.unexpected} unexpected); nothing is detected with it"
        )
    if options.source is None:
        return
    frames = dropped = late = 0
    for image_bgr, missed in _pictures(options.source):
        begun = perf_counter()
        detections = detector(image_bgr)
        latency_ms = 1e3 * (perf_counter() - begun)
        late += options.budget_ms is not None and latency_ms > options.budget_ms
        found = _rows(detections, detector)
        _say({"frame": frames, "dropped": missed, "latency_ms": round(latency_ms, 3), "detections": found})
        frames += 1
        dropped += missed
    _say({"frames": frames, "dropped": dropped, "late": late if options.budget_ms is not None else None})


def _say(document: dict[str, Any]) -> None:
    print(json.dumps(document, allow_nan=False), flush=True)


def _rows(detections: Detections, detector: Detector) -> list[dict[str, Any]]:
    names = detector.contract.class_names
    return [
        {"class": names[class_id], "confidence": round(float(score), 4), "xyxy_px": [round(float(v), 1) for v in box]}
        for box, score, class_id in zip(detections.xyxy_px, detections.confidence, detections.class_id, strict=True)
    ]


def _pictures(source: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the frames of a file one after another; of a camera or a stream the newest, and how many were dropped."""
    name = printable_source(source)
    if name != source:
        # OpenCV's own warnings quote the source as it is.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    camera = source.isascii() and source.isdigit() and len(source) <= _CAMERA_DIGITS
    source = without_file_url(source)
    # Devices and pipelines have names that are no files; what OpenCV counts up (frame_%04d.png) is a recording.
    recorded = "://" not in source and (_is_file(source) or ("%" in source and "!" not in source))
    capture = cv2.VideoCapture(int(source) if camera else source)
    if not capture.isOpened():
        raise VideoError(f"the source {quoted(name)} cannot be opened; check its path, its address or its cable")
    try:
        yield from _all(capture, name, Path(source)) if recorded else _newest(capture, name)
    finally:
        capture.release()


def _is_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except OSError:
        # A pipeline may be longer than any file's name. One with a ! is no proof: files have such names too.
        return False


def _all(capture: Any, name: str, path: Path) -> Iterator[tuple[np.ndarray, int]]:
    fps, stated = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count, last_s = 0, 0.0
    while True:
        there, image_bgr = capture.read()
        if not there:
            break
        count += 1
        last_s = max(last_s, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        yield image_bgr, 0
    if not count:
        raise VideoError(f"{quoted(name)} opens but holds no frame that can be decoded; record it again")
    # Where frames are unevenly spaced their number is an estimate, and only the time of the last one tells.
    reached = max(count, last_s * fps + 1)
    if _is_file(str(path)):
        # Not before, because until now somebody may have been copying it.
        container = _inspected(path)
        if container.cut_off:
            raise VideoError(
                f"{quoted(name)} was cut off after {count} frames: it has {container.size_bytes} of "
                f"{container.expected_bytes} bytes; copy it again"
            )
        if container.name == "MP4":
            # Its number is exact, and those that an edit list trims are in it.
            reached = count
            stated = min(stated, (container.duration_s or math.inf) * fps)
    if reached < _WHOLE_SHARE * stated:
        raise VideoError(f"{quoted(name)} was cut off after {count} of about {stated:.0f} frames; copy it again")


def _inspected(path: Path) -> Container:
    try:
        return inspect_container(path)
    except OSError as error:
        raise VideoError(f"cannot read {quoted(path)}: {error.strerror or error}; check the disk") from error


def _newest(capture: Any, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Read in a thread of its own: what waits in a driver's queue is a road that the car has already left behind."""
    arrived = threading.Condition()
    newest: list[np.ndarray | None] = []
    dropped = 0
    over = threading.Event()

    def read() -> None:
        nonlocal dropped
        there = True
        while there and not over.is_set():
            there, image_bgr = capture.read()
            with arrived:
                dropped += len(newest)
                newest[:] = [image_bgr if there else None]
                arrived.notify()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while True:
            with arrived:
                if not arrived.wait_for(lambda: bool(newest), _STALLED_S):
                    raise VideoError(f"{quoted(name)} has sent no frame for {_STALLED_S:g} s; check the camera")
                image_bgr, missed, dropped = newest.pop(), dropped, 0
            # A failed read is the end, never a black picture: an empty road is a dangerous thing to report.
            if image_bgr is None:
                raise VideoError(f"{quoted(name)} stopped sending frames; check the camera")
            yield image_bgr, missed
    finally:
        over.set()
        reader.join(_STOP_S)  # a camera that hangs keeps its thread; nothing else does


if __name__ == "__main__":
    sys.exit(main())
