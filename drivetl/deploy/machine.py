"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort

from drivetl.cores import usable_cores

__all__ = ["Load", "describe_machine", "int8_saturates", "int8_warning", "peak_memory_mb", "runtime_versions"]

_CPU_INFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_STATUS = Path("/proc/self/status")
_STAT = Path("/proc/stat")
_EXACT_INT8 = frozenset({"avx512_vnni", "avx_vnni"})
_THROTTLE = Path("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count")


class Load:
    """What the machine does between the making of this object and `document`; None where it does not tell (not Linux).

    A latency of a machine that does something else besides is that of another machine, so it belongs to the figure.
    """

    def __init__(self) -> None:
        self._before = self._counters()

    def document(self) -> dict[str, float | None]:
        """Return how many cores other programs kept busy, processor clock, and throttling events meanwhile."""
        after = self._counters()
        others = None
        busy, own, wall = (_difference(self._before[name], after[name]) for name in ("busy_s", "own_s", "wall_s"))
        if busy is not None and own is not None and wall:
            others = round(max(busy - own, 0.0) / wall, 2)
        return {
            "other_programs_cores": others,
            "clock_mhz_before": self._before["clock_mhz"],
            "clock_mhz_after": after["clock_mhz"],
            "throttle_events": _difference(self._before["throttled"], after["throttled"]),
        }

    @staticmethod
    def _counters() -> dict[str, float | None]:
        clock, throttled = _field(_CPU_INFO, "cpu MHz"), _text(_THROTTLE)
        return {
            "wall_s": time.perf_counter(),
            "own_s": time.process_time(),
            "busy_s": _busy_s(),
            "clock_mhz": float(clock) if clock else None,
            "throttled": float(throttled) if throttled else None,
        }


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _busy_s() -> float | None:
    """Return the seconds that all cores together have worked since the start of the system."""
    first = (_text(_STAT) or "").partition("\n")[0].split()
    if not first or not hasattr(os, "sysconf"):
        return None
    user, nice, system, _, _, irq, softirq = (int(word) for word in first[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def runtime_versions() -> dict[str, str]:
    """Return the versions of what runs in the car.

    They are asked of the modules, because the packages have several names (onnxruntime, onnxruntime-gpu, a vendor's).
    """
    return {"numpy": np.__version__, "opencv": cv2.__version__, "onnxruntime": str(ort.__version__)}


def describe_machine(gpu: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return processor, cores, frequency governor and versions; None where the system does not tell.

    Args:
        gpu: of a figure of a GPU, which one that was and how it was: see `drivetl.deploy.gpu_state.GpuWatch`.
    """
    return {
        "cpu": _field(_CPU_INFO, "model name") or platform.processor() or platform.machine(),
        "logical_cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "governor": _text(_GOVERNOR),
        "gpu": None if gpu is None else dict(gpu),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **runtime_versions()},
    }


def int8_saturates() -> bool | None:
    """Return whether sums of 8-bit products overflow on this processor; None where the system does not tell.

    x86 without VNNI adds two such products in 16 bits (VPMADDUBSW), so that ONNX Runtime's int8 gives other results
    there than elsewhere, and worse ones (its guide "Quantize ONNX models", on ``reduce_range``).
    """
    if platform.machine().lower() in ("aarch64", "arm64"):
        return False
    flags = _field(_CPU_INFO, "flags")
    return None if flags is None else _EXACT_INT8.isdisjoint(flags.split())


def int8_warning(quantisation: Mapping[str, Any] | None) -> str | None:
    """Return what to say of an int8 bundle on this processor; None where nothing is to be said.

    Args:
        quantisation: the contract's account of how the graph came about.
    """
    searched_on = (quantisation or {}).get("processor")
    exact = isinstance(searched_on, Mapping) and searched_on.get("int8_saturates") is False
    if exact and int8_saturates():
        return (
            "int8 was searched on a processor that adds 8-bit products exactly; this one (x86 without VNNI) saturates, "
            "which may cost accuracy: hold it against the weights here with drivetl verify, or export it here"
        )
    return None


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
