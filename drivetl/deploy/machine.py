"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort

__all__ = ["describe_machine", "peak_memory_mb", "runtime_versions"]

_CPU_INFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_STATUS = Path("/proc/self/status")


def runtime_versions() -> dict[str, str]:
    """Return the versions of what runs in the car.

    They are asked of the modules, because the packages have several names (onnxruntime, onnxruntime-gpu, a vendor's).
    """
    return {"numpy": np.__version__, "opencv": cv2.__version__, "onnxruntime": str(ort.__version__)}


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, frequency governor and versions; None where the system does not tell."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _field(_CPU_INFO, "model name") or platform.processor() or platform.machine(),
        "logical_cores": os.cpu_count(),
        "usable_cores": usable,
        "governor": _text(_GOVERNOR),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **runtime_versions()},
    }


def peak_memory_mb() -> float | None:
    """Return the most host memory this process has occupied, in MiB; None where the system does not tell (not Linux).

    Read from /proc, because ``getrusage`` also counts what the program that started this one had occupied.
    """
    value = _field(_STATUS, "VmHWM")
    return int(value.split()[0]) / 1024 if value else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _field(path: Path, key: str) -> str | None:
    for line in (_text(path) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
