"""How fast ``yolo predict`` runs an ONNX model over a video: the rival of ``drivetl.video.benchmark``.

``python -m drivetl.yolo.predict_speed model.onnx video.mp4 out --threads 1`` prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

from drivetl.yolo.environment import prepare

__all__ = ["main"]


def main() -> None:
    """Read the arguments, predict the video with saving, print frames and seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("onnx")
    parser.add_argument("video")
    parser.add_argument("out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--imgsz", type=int, nargs=2, required=True, help="height and width")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    prepare()
    _limit_threads(given.threads)
    from ultralytics import YOLO

    model = YOLO(given.onnx, task="detect")
    options: dict[str, Any] = {"imgsz": given.imgsz, "save": True, "project": given.out, "device": "cpu"}
    frames = model.predict(given.video, stream=True, verbose=False, **options)
    next(frames)  # loading and warming up are not counted
    begun_s = time.perf_counter()
    count = sum(1 for _ in frames)
    print(json.dumps({"frames": count, "seconds": time.perf_counter() - begun_s}))


def _limit_threads(threads: int) -> None:
    """Make every ONNX Runtime session use this many threads: Ultralytics has no option for it."""
    import onnxruntime

    session_class = onnxruntime.InferenceSession

    def limited(path: Any, sess_options: Any = None, *words: Any, **options: Any) -> Any:
        sess_options = sess_options or onnxruntime.SessionOptions()
        sess_options.intra_op_num_threads = threads
        return session_class(path, sess_options, *words, **options)

    onnxruntime.InferenceSession = limited


if __name__ == "__main__":
    main()
