"""Checkpoints made here: real architectures, random weights."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

Save = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Run torch on one thread: the models are tiny, and threads that wait for each other cost more than they give."""
    from drivetl.yolo.ultra import set_threads

    set_threads(1)


@cache
def _built(architecture: str) -> Any:
    import torch

    from drivetl.yolo.ultra import DetectionModel

    torch.manual_seed(0)
    return DetectionModel(f"{architecture}.yaml", verbose=False)


@pytest.fixture
def save_checkpoint(tmp_path: Path) -> Save:
    """Write a checkpoint as Ultralytics does, of a model built from one of its YAMLs, and return its path."""

    def save(architecture: str = "yolo11n", change: Callable[[Any], None] | None = None, **extra: Any) -> Path:
        import torch

        model = deepcopy(_built(architecture))
        if change is not None:
            change(model)
        path = tmp_path / f"{architecture}.pt"
        torch.save({"model": model, "train_args": {"imgsz": 320}, "license": "AGPL-3.0", **extra}, path)
        return path

    return save
