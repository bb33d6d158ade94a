"""What a training run costs: pictures a second, and the most memory it held."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["Usage", "peak_memory_mib", "totals"]

_MIB = 1 << 20


class Usage:
    """Counts the pictures of an epoch and the time they take, validation left out."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._pictures = 0
        self._began = self._ended = time.monotonic()

    def start(self) -> None:
        """Begin an epoch."""
        self._pictures = 0
        self._began = self._ended = time.monotonic()

    def add(self, pictures: int) -> None:
        """Count a batch."""
        self._pictures += pictures

    def stop(self) -> None:
        """End the training part of the epoch."""
        self._ended = time.monotonic()

    def line(self) -> dict[str, float | None]:
        """Return what the log says of the epoch; memory is the most since the process began, in MiB."""
        seconds = self._ended - self._began
        return {
            "pictures": self._pictures,
            "pictures_per_second": round(self._pictures / seconds, 3) if seconds > 0 else None,
            "peak_memory_mib": peak_memory_mib(),
            "peak_gpu_memory_mib": peak_gpu_memory_mib(self._device),
        }


def peak_memory_mib() -> float | None:
    """Return the largest resident size of this process so far; None where the system does not say (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return round(most / (_MIB if sys.platform == "darwin" else 1024), 1)


def peak_gpu_memory_mib(device: Any) -> float | None:
    """Return the most that torch held on a GPU so far; None on the CPU."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(device) / _MIB, 1)


def totals(lines: Iterable[str]) -> dict[str, float | None]:
    """Return the same keys over the whole log, parts before an interruption included."""
    epochs = [json.loads(line) for line in lines]
    timed = [entry for entry in epochs if entry.get("pictures_per_second")]
    pictures = sum(entry["pictures"] for entry in timed)
    seconds = sum(entry["pictures"] / entry["pictures_per_second"] for entry in timed)
    result: dict[str, float | None] = {
        "pictures": sum(entry.get("pictures") or 0 for entry in epochs),
        "pictures_per_second": round(pictures / seconds, 3) if seconds > 0 else None,
    }
    for name in ("peak_memory_mib", "peak_gpu_memory_mib"):
        result[name] = max((entry[name] for entry in epochs if entry.get(name) is not None), default=None)
    return result
