"""The GPU that ONNX Runtime takes: CUDA's first device, which need not be the first that nvidia-smi lists."""

from __future__ import annotations

import ctypes
import uuid
from dataclasses import dataclass

from drivetl.runtime.requirements import driver

__all__ = ["FirstGpu", "first_gpu"]

_NAME_BYTES = 256
_MULTIPROCESSOR_COUNT = 16  # of the driver's CUdevice_attribute


@dataclass(frozen=True, slots=True)
class FirstGpu:
    """What the driver says of CUDA's first device; None for what it does not tell.

    Attributes:
        name: as the driver calls it; every Orin is just that.
        uuid: as nvidia-smi writes it.
        multiprocessors: how many run; power modes of a Jetson switch some of them off.
    """

    name: str | None = None
    uuid: str | None = None
    multiprocessors: int | None = None


def first_gpu() -> FirstGpu:
    """Ask the driver; without one, or where it has no device, nothing is known."""
    device, count = ctypes.c_int(), ctypes.c_int()
    name, raw = ctypes.create_string_buffer(_NAME_BYTES), (ctypes.c_ubyte * 16)()

    def done(function: str, *arguments: object) -> bool:
        # A function that an old driver lacks tells as little as one that fails.
        call = getattr(driver(), function, None)
        return call is not None and call(*arguments) == 0

    if not (done("cuInit", 0) and done("cuDeviceGet", ctypes.byref(device), 0)):
        return FirstGpu()
    named = done("cuDeviceGetName", name, _NAME_BYTES, device)
    known = done("cuDeviceGetUuid", ctypes.byref(raw), device)
    counted = done("cuDeviceGetAttribute", ctypes.byref(count), _MULTIPROCESSOR_COUNT, device)
    return FirstGpu(
        name.value.decode(errors="replace") if named else None,
        f"GPU-{uuid.UUID(bytes=bytes(raw))}" if known else None,
        count.value if counted else None,
    )
