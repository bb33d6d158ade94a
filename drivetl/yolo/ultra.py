"""The door: all that drivetl uses of Ultralytics, imported with its switches set.

Importing this module imports torch and Ultralytics. Process-wide it turns off every experiment tracker, every message
to Ultralytics' servers, and its search for other weights than the file that was named. It leaves the user's
``OMP_NUM_THREADS`` as it was: Ultralytics sets it to 1, which would quietly slow down every other library and every
child process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from drivetl.cores import usable_cores
from drivetl.errors import ConfigError, quoted
from drivetl.yolo.environment import prepare

prepare()
_omp_num_threads = os.environ.get("OMP_NUM_THREADS")

# ruff: noqa: E402 - the order is the point: switches, then torch, then Ultralytics
import torch
import ultralytics
from ultralytics.cfg import get_cfg
from ultralytics.data import build as build_module
from ultralytics.data import dataset as dataset_module
from ultralytics.data import utils as data_utils_module
from ultralytics.data.augment import LetterBox, Mosaic
from ultralytics.data.dataset import YOLODataset
from ultralytics.engine import trainer as trainer_module
from ultralytics.engine.exporter import Exporter
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import DetectionModel, torch_safe_load, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT, SETTINGS, callbacks
from ultralytics.utils import downloads as downloads_module
from ultralytics.utils import torch_utils as torch_utils_module
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.patches import imread
from ultralytics.utils.torch_utils import ModelEMA, unwrap_model

__all__ = [
    "DEFAULT_CFG_DICT",
    "Detect",
    "DetectionModel",
    "DetectionPredictor",
    "DetectionTrainer",
    "DetectionValidator",
    "Exporter",
    "LetterBox",
    "ModelEMA",
    "Mosaic",
    "YOLODataset",
    "build_module",
    "data_utils_module",
    "dataset_module",
    "get_cfg",
    "imread",
    "non_max_suppression",
    "patched",
    "set_threads",
    "torch_device",
    "torch_safe_load",
    "torch_utils_module",
    "trainer_module",
    "ultralytics_version",
    "unwrap_model",
    "yaml_model_load",
]

if _omp_num_threads is None:
    os.environ.pop("OMP_NUM_THREADS", None)

if SETTINGS["sync"]:
    SETTINGS.update({"sync": False})


def _no_integrations(instance: Any) -> None:
    """Take the place of Ultralytics' function that hooks trackers (W&B, MLflow, Comet, its platform) into a run."""


def _exactly_this_file(file: Any, *_: Any, **__: Any) -> str:
    """Take the place of Ultralytics' function that looks for weights under similar names, here and on GitHub."""
    return str(file)


callbacks.add_integration_callbacks = _no_integrations
downloads_module.attempt_download_asset = _exactly_this_file

ultralytics_version: str = ultralytics.__version__


@contextlib.contextmanager
def patched(place: Any, **replacements: Any) -> Iterator[None]:
    """Replace attributes of a module or class while the block runs."""
    kept = {name: getattr(place, name) for name in replacements}
    try:
        for name, value in replacements.items():
            setattr(place, name, value)
        yield
    finally:
        for name, value in kept.items():
            setattr(place, name, value)


def set_threads(threads: int | None) -> int:
    """Set how many CPU threads torch uses in this process and return the number; None means every core we may use."""
    torch.set_num_threads(threads or usable_cores())
    return torch.get_num_threads()


def torch_device(device: str) -> torch.device:
    """Return the torch device that ``cpu``, ``cuda``, ``cuda:1`` or ``1`` names.

    Raises:
        ConfigError: the name is unknown, or this machine or this build of torch has no such device.
    """
    name = f"cuda:{device}" if device.isdigit() else device
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise ConfigError(f"the device {quoted(device)} is unknown; use 'cpu', 'cuda' or 'cuda:0'")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(
                f"the device {quoted(device)} cannot be used: torch {torch.__version__} finds no CUDA GPU here; "
                "use --device cpu, or see 'drivetl doctor'"
            )
        if int(index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"the device {quoted(device)} does not exist: this machine has {torch.cuda.device_count()} GPU(s), "
                "counted from 0"
            )
    return torch.device(name)
