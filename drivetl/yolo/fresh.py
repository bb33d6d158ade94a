"""Networks with random weights: the baseline that shows what pretraining gives."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from drivetl import __version__
from drivetl.errors import WeightsError, quoted
from drivetl.files import atomic_file, sha256_file
from drivetl.yolo.darknet import ARCHITECTURE, IMGSZ_PX, UNTRAINED, build_tiny
from drivetl.yolo.saving import save_tensors
from drivetl.yolo.ultra import DEFAULT_CFG_DICT, DetectionModel
from drivetl.yolo.weights import is_published_name

__all__ = ["write_random"]


def write_random(architecture: str, target: Path, *, seed: int, overwrite: bool = False) -> str:
    """Write a checkpoint with random weights and the one class ``untrained``; return its sha256.

    Args:
        architecture: ``yolov3-tiny``, or the name of published weights such as ``yolo11n``.
        target: a ``.pt`` file.
        seed: same seed, same weights.
        overwrite: replace ``target``.

    Raises:
        WeightsError: the architecture is unknown.
        OutputError: the target exists or cannot be written.
    """
    tiny = architecture == ARCHITECTURE
    if not tiny and not is_published_name(architecture):
        raise WeightsError(
            f"{quoted(architecture)} is no architecture; try {ARCHITECTURE}, yolo11n, yolov8s or yolo26m"
        )
    model = build_tiny(seed) if tiny else _build(architecture, seed)
    arguments = {**DEFAULT_CFG_DICT, "task": "detect", "mode": "train", "imgsz": IMGSZ_PX if tiny else 640}
    model.args = dict(arguments)
    document = {"epoch": -1, "model": model, "train_args": arguments, "version": version("ultralytics")}
    with atomic_file(target, overwrite=overwrite) as temporary:
        save_tensors({**document, "license": "AGPL-3.0", "drivetl": {"version": __version__}}, temporary)
    return sha256_file(target)


def _build(architecture: str, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DetectionModel(f"{architecture}.yaml", nc=1, verbose=False)
    model.names = {0: UNTRAINED}
    return model
