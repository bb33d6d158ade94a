"""Where TensorRT's engines are kept: never one of another machine, and never one that cannot be read.

ONNX Runtime names the file of an engine after the graph, the GPU's compute capability and the TensorRT that ONNX
Runtime itself was compiled with. TensorRT wants the very GPU and TensorRT that built it: an Orin Nano, NX and AGX share
the capability 8.7, and a board's TensorRT is updated without ONNX Runtime.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from drivetl.errors import BundleError, quoted
from drivetl.runtime.first_gpu import first_gpu
from drivetl.runtime.requirements import tensorrt

__all__ = ["discard_engines", "engine_folder", "engine_options", "is_unreadable"]

# What the driver does not tell of an Orin, the kernel's device tree does: the board.
_BOARD = Path("/proc/device-tree/model")
_UNREADABLE = "could not deserialize engine from cache"


def engine_folder(cache: Path, model_sha256: str) -> Path:
    """Make and return the folder in a cache for the engines of one graph on this GPU with this TensorRT.

    What the machine does not tell is left out of its name.

    Raises:
        BundleError: it cannot be made.
    """
    traits = (*_gpu(), _board(), _tensorrt_version())
    words = (re.sub(r"[^A-Za-z0-9.]+", "-", trait).strip("-") for trait in traits if trait is not None)
    own = cache / "-".join((model_sha256[:16], *words))
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(
            f"the engine cache {quoted(own)} cannot be made: {error.strerror or error}; name another folder"
        ) from error
    return own


def engine_options(folder: Path) -> dict[str, str]:
    """Return the options of ONNX Runtime's TensorRT provider that keep engines and timings in a folder."""
    kept = {"trt_engine_cache_path": str(folder), "trt_timing_cache_path": str(folder)}
    # Of TensorRT, ONNX Runtime's Python binding takes no "1", which it takes of CUDA.
    return {"trt_engine_cache_enable": "True", "trt_timing_cache_enable": "True", **kept}


def is_unreadable(error: Exception) -> bool:
    """Whether a session was not made because TensorRT cannot read the engine in the cache."""
    return _UNREADABLE in str(error.__cause__)


def discard_engines(folder: Path) -> None:
    """Delete what lies in the folder of an engine that cannot be read, and say so, because building takes minutes.

    Warns:
        RuntimeWarning: always.

    Raises:
        BundleError: a file cannot be deleted.
    """
    try:
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
    except OSError as error:
        raise BundleError(
            f"TensorRT cannot read the engine in {quoted(folder)}, and it cannot be deleted: "
            f"{error.strerror or error}; delete it, or name another folder for the engine cache"
        ) from error
    warnings.warn(
        f"TensorRT cannot read the engine in {quoted(folder)}, which was cut off or built elsewhere; it is deleted and "
        "built once more, which takes minutes",
        RuntimeWarning,
        stacklevel=4,  # who opened the session
    )


def _gpu() -> tuple[str, ...]:
    gpu = first_gpu()
    if gpu.name is None:
        return ()
    return (gpu.name,) if gpu.multiprocessors is None else (gpu.name, f"{gpu.multiprocessors}sm")


def _board() -> str | None:
    try:
        return _BOARD.read_bytes().decode(errors="replace").strip("\0\n ")
    except OSError:
        return None


def _tensorrt_version() -> str | None:
    """Return the version of the TensorRT that will run, such as ``trt10.3.0``; None where it does not tell."""
    library = tensorrt()
    try:
        version = 0 if library is None else int(library.getInferLibVersion())
    except AttributeError:
        return None
    return f"trt{version // 10_000}.{version // 100 % 100}.{version % 100}" if version else None
