"""The GPU that a figure was measured on, and what it did besides.

A latency on a GPU is that of its clock, and the clock is that of its temperature, its power limit and whoever else
computes on it.
"""

from __future__ import annotations

from typing import Any

from drivetl.nvidia import ask_nvidia_smi
from drivetl.runtime.first_gpu import FirstGpu, first_gpu

__all__ = ["GpuWatch"]

_PROVIDERS = ("cuda", "tensorrt")
_REASONS = "clocks_event_reasons.active"
_FIELDS = (
    *("name", "driver_version", "memory.total", "uuid"),
    *("clocks.sm", "temperature.gpu", _REASONS, "utilization.gpu", "memory.used"),
)
# Its name in older drivers, which refuse the new one.
_OLD_REASONS = "clocks_throttle_reasons.active"
# Bits of nvmlClocksEventReasons (NVML API reference), by the names that nvidia-smi gives them.
_REASON_BITS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}

_Row = dict[str, str | None]


class GpuWatch:
    """Looks at the GPU when it is made and at `document`: make it before a session is opened, ask it after the work.

    Made before, because then whatever keeps the GPU busy is another program. On other providers it does nothing.
    """

    def __init__(self, provider: str | None) -> None:
        """Look at the GPU that ONNX Runtime takes for a provider: CUDA's first device."""
        self._watched = provider in _PROVIDERS
        self._gpu = first_gpu() if self._watched else FirstGpu()
        self._before = self._look()

    def document(self) -> dict[str, Any] | None:
        """Return what the GPU is and how it was before and after; None on other providers.

        Every value is None that nvidia-smi does not tell (on a Jetson, most). ``after`` comes from a moment after the
        last frame, as long as nvidia-smi takes to start, in which clocks may have begun to fall.
        """
        if not self._watched:
            return None
        row = self._before
        return {
            "name": row.get("name") or self._gpu.name,
            "driver": row.get("driver_version"),
            "memory_mib": _number(row.get("memory.total")),
            "before": _state(row),
            "after": _state(self._look()),
        }

    def _look(self) -> _Row:
        """Return the row of the GPU; an empty one where it is not known which of several it is."""
        if not self._watched:
            return {}
        rows = ask_nvidia_smi(_FIELDS)
        if rows == []:
            old = ask_nvidia_smi([_OLD_REASONS if field == _REASONS else field for field in _FIELDS])
            rows = [
                {_REASONS if key == _OLD_REASONS else key: value for key, value in row.items()} for row in old or ()
            ]
        rows = rows or []
        own = [row for row in rows if self._gpu.uuid is not None and row["uuid"] == self._gpu.uuid]
        return next(iter(own), rows[0] if len(rows) == 1 else {})


def _state(row: _Row) -> dict[str, Any]:
    return {
        "sm_clock_mhz": _number(row.get("clocks.sm")),
        "temperature_c": _number(row.get("temperature.gpu")),
        "throttle_reasons": _reasons(row.get(_REASONS)),
        "utilisation_percent": _number(row.get("utilization.gpu")),
        "memory_used_mib": _number(row.get("memory.used")),
    }


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _reasons(text: str | None) -> list[str] | None:
    """Return the names of the bits in a hexadecimal mask."""
    try:
        mask = int(text or "", 16)
    except ValueError:
        return None
    bits = (1 << place for place in range(mask.bit_length()))
    return [_REASON_BITS.get(bit, hex(bit)) for bit in bits if mask & bit]
