"""What an execution provider needs of a machine, and the remedy where it is missing.

ONNX Runtime lists CUDA as available wherever its wheel holds it, and says the rest in the words of a dynamic linker, or
not at all: without cuDNN it computes convolutions slowly and keeps silent.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

import onnxruntime as ort

from drivetl.errors import ProviderUnavailable, quoted

__all__ = ["PROVIDERS", "driver", "load_fault", "missing_for", "tensorrt"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_WINDOWS = sys.platform == "win32"
_DRIVER = "nvcuda.dll" if _WINDOWS else "libcuda.so.1"
_CUDNN = "cudnn64_9.dll" if _WINDOWS else "libcudnn.so.9"
_TENSORRT = "nvinfer_{}.dll" if _WINDOWS else "libnvinfer.so.{}"
_TENSORRT_PLUGINS = "nvinfer_plugin_{}.dll" if _WINDOWS else "libnvinfer_plugin.so.{}"
_TENSORRT_PARSER = "nvonnxparser_{}.dll" if _WINDOWS else "libnvonnxparser.so.{}"
# What the CUDA provider of ONNX Runtime 1.31 is linked to on Linux beside the driver: each may be missing alone, and
# without any one of them the provider is not there at all. cuFFT is opened when a graph first wants it. Of Windows only
# is known what ONNX Runtime itself loads ahead.
_CUDA = (
    ("cublasLt64_{}.dll", "cublas64_{}.dll", "cudart64_{}.dll")
    if _WINDOWS
    else ("libcublasLt.so.{}", "libcublas.so.{}", "libcurand.so.10", "libcudart.so.{}")
)
_PROVIDER_LIBRARY = "onnxruntime_providers_{}.dll" if _WINDOWS else "libonnxruntime_providers_{}.so"
# ONNX Runtime's TensorRT provider has no option against TF32. NVIDIA's libraries read this one, and when is theirs to
# choose: it stands there before the first of them is loaded.
_ENVIRONMENT = {"NVIDIA_TF32_OVERRIDE": "0"}
_TENSORRT_MAJOR, _TENSORRT_NEXT = 10, 11


def missing_for(provider: str) -> str | None:
    """Return what this machine lacks to run a provider, as a sentence with the remedy; None when nothing is known.

    Of TensorRT it sets ``NVIDIA_TF32_OVERRIDE=0`` for the whole process, which no option can do.

    Raises:
        ProviderUnavailable: the name is no provider of drivetl.
    """
    if provider not in PROVIDERS:
        raise ProviderUnavailable(f"there is no provider {quoted(provider)}; choose one of {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in ort.get_available_providers():
        return (
            f"this onnxruntime {ort.__version__} was built without {PROVIDERS[provider]}; "
            f"install onnxruntime-gpu (pip install onnxruntime-gpu), or the vendor's build on a Jetson"
        )
    if provider == "cpu":
        return None
    if not _library_loads(_DRIVER):
        return "no NVIDIA driver is installed (libcuda does not load); install the driver, then check with nvidia-smi"
    if provider != "tensorrt":
        return _missing_cuda()
    os.environ.update(_ENVIRONMENT)
    return _missing_cuda() or _missing_tensorrt()


def driver() -> ctypes.CDLL | None:
    """Return the library of NVIDIA's driver; None where there is none."""
    return _library(_DRIVER)


def tensorrt() -> ctypes.CDLL | None:
    """Return the library of the TensorRT that ONNX Runtime will use; None where there is none.

    It sets ``NVIDIA_TF32_OVERRIDE=0`` for the whole process, like `missing_for`.
    """
    os.environ.update(_ENVIRONMENT)
    _load_tensorrt_wheel()
    return _library(_TENSORRT.format(_TENSORRT_MAJOR))


def load_fault(provider: str) -> str | None:
    """Return why ONNX Runtime's library for a GPU provider does not load; None where it does or cannot be asked.

    Only for after ONNX Runtime has tried to make the provider: its libraries ask it for an address as they load, which
    it gives them when it loads the first of them itself.
    """
    path = Path(ort.__file__).parent / "capi" / _PROVIDER_LIBRARY.format(provider)
    if not path.is_file():
        return None
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return f"{quoted(path)} does not load ({error})"
    return None


def _missing_cuda() -> str | None:
    """Hold the driver and the libraries against the CUDA that ONNX Runtime was built for, where its build says so."""
    built = _built_for_cuda()
    if built is None:
        return None
    driver = _driver_cuda()
    if driver is not None and driver[0] < built:
        newest = f"{driver[0]}.{driver[1]}"
        return (
            f"this onnxruntime {ort.__version__} is built for CUDA {built} and the NVIDIA driver knows CUDA {newest} "
            f"at most; update the driver, or install an onnxruntime-gpu built for CUDA {driver[0]}"
        )
    # From the wheels of NVIDIA or torch, where there are any; the system's own libraries need no help.
    ort.preload_dlls()
    wheels = f"pip install 'onnxruntime-gpu[cuda,cudnn]=={ort.__version__}'"
    absent = [name for name in (pattern.format(built) for pattern in _CUDA) if not _library_loads(name)]
    if absent:
        do = "does" if len(absent) == 1 else "do"
        return f"the libraries of CUDA {built} are not installed ({', '.join(absent)} {do} not load); {wheels}"
    if not _library_loads(_CUDNN):
        return (
            f"cuDNN 9 is not installed ({_CUDNN} does not load), without which convolutions are slow and nothing says "
            f"so; {wheels}"
        )
    return None


def _missing_tensorrt() -> str | None:
    _load_tensorrt_wheel()
    built = _built_for_cuda()
    remedy = f"pip install 'tensorrt-cu{built or 13}<{_TENSORRT_NEXT}'"
    name = _TENSORRT.format(_TENSORRT_MAJOR)
    if _library_loads(name):
        parser = _TENSORRT_PARSER.format(_TENSORRT_MAJOR)
        # A vendor's build, which does not tell what it was built for, may hold the parser itself.
        if built is None or _library_loads(parser):
            return None
        return f"TensorRT {_TENSORRT_MAJOR} is installed without its parser ({parser} does not load); {remedy}"
    if _library_loads(_TENSORRT.format(_TENSORRT_NEXT)):
        return f"TensorRT {_TENSORRT_NEXT} is installed and this onnxruntime needs {_TENSORRT_MAJOR}; {remedy}"
    return f"TensorRT {_TENSORRT_MAJOR} is not installed ({name} does not load); {remedy}"


def _load_tensorrt_wheel() -> None:
    """Load the libraries of NVIDIA's wheel, where it is installed: no loader looks there, and ONNX Runtime neither.

    Once loaded they are found by their names.
    """
    spec = importlib.util.find_spec("tensorrt_libs")
    for folder in (spec and spec.submodule_search_locations) or ():
        for name in (_TENSORRT, _TENSORRT_PLUGINS, _TENSORRT_PARSER):
            _library_loads(str(Path(folder) / name.format(_TENSORRT_MAJOR)))


def _built_for_cuda() -> int | None:
    """Return the major version of CUDA that this ONNX Runtime was built for; None where the build does not tell."""
    try:
        from onnxruntime.capi import build_and_package_info
    except ImportError:
        return None
    major = str(getattr(build_and_package_info, "cuda_version", "")).partition(".")[0]
    return int(major) if major.isdigit() else None


def _driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA that the driver knows, as major and minor version; None where it does not tell."""
    version, library = ctypes.c_int(), driver()
    try:
        if library is None or library.cuDriverGetVersion(ctypes.byref(version)):
            return None
    except AttributeError:
        return None
    return version.value // 1000, version.value % 1000 // 10


def _library_loads(name: str) -> bool:
    return _library(name) is not None


def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
