"""What this machine can do: hardware, versions, providers that really run, weights, and what is wrong with the remedy.

Nothing here loads torch or Ultralytics: versions come from the packages' metadata. The providers are tried, not
asked, because ONNX Runtime lists CUDA as available on machines without a driver.
"""

from __future__ import annotations

import base64
import os
import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from drivetl.cores import usable_cores
from drivetl.errors import DrivetlError, quoted
from drivetl.files import expanded
from drivetl.nvidia import ask_nvidia_smi

__all__ = ["PROBE_GRAPH", "Machine", "ProviderState", "Report", "Weights", "duplicates", "examine"]

# y = 2 x by a 1x1 convolution, ONNX opset 17: the smallest graph that makes CUDA load cuDNN. A test builds it anew.
PROBE_GRAPH = base64.b64decode(
    "CAgSB2RyaXZldGw6fgomCgF4CgF3EgF5IgRDb252KhUKDGtlcm5lbF9zaGFwZUABQAGgAQcSBXByb2JlKhMIAQgBCAEIARABIgQAAABAQgF3"
    "WhsKAXgSFgoUCAESEAoCCAEKAggBCgIIAgoCCAJiGwoBeRIWChQIARIQCgIIAQoCCAEKAggCCgIIAkIECgAQEQ=="
)
_PACKAGES = (
    "numpy",
    "opencv-python",
    "onnxruntime-gpu",
    "onnxruntime",
    "torch",
    "ultralytics",
    "albumentations",
    "onnx",
    "faster-coco-eval",
    "av",
)
# Distributions that write the same files: the one that was installed last decides what is imported.
_ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn")
_OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_IMPORT_REMEDIES = {
    "cv2": "on Debian and Ubuntu: apt install libgl1 libglib2.0-0; else: pip install --force-reinstall opencv-python",
    "onnxruntime": "pip install --force-reinstall onnxruntime-gpu (onnxruntime where there is no NVIDIA GPU)",
}
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware.

    Attributes:
        system: operating system and its version.
        python: version of the interpreter.
        cpu: name of the processor.
        cores: logical processors that this process may use.
        memory_gib: total memory; None where the system does not say.
        gpus: name, memory and driver of each GPU that nvidia-smi lists.
    """

    system: str
    python: str
    cpu: str
    cores: int
    memory_gib: float | None
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProviderState:
    """Whether a session on an execution provider gave the right answer a moment ago, and if not, why."""

    usable: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights found on this machine, and the folder that downloads go to."""

    found: Mapping[str, str]
    cache: str
    cache_writable: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `examine` found.

    Attributes:
        machine: the hardware.
        packages: version by distribution name, every OpenCV and ONNX Runtime among them; None where one that drivetl
            names is not installed.
        providers: by ``cpu``, ``cuda``, ``tensorrt``.
        weights: checkpoints on this machine.
        problems: what is wrong, each with its remedy, one sentence each.
    """

    machine: Machine
    packages: Mapping[str, str | None]
    providers: Mapping[str, ProviderState]
    weights: Weights
    problems: tuple[str, ...]


def examine() -> Report:
    """Look at this machine. Takes a second or two; changes nothing and opens no network connection."""
    machine = Machine(
        system=platform.platform(),
        python=platform.python_version(),
        cpu=_cpu_name(),
        cores=usable_cores(),
        memory_gib=_memory_gib(),
        gpus=_gpus(),
    )
    installed = _installed()
    broken = _broken_imports()
    providers = {} if broken else _providers()
    weights = _weights()
    problems = [*broken, *duplicates(installed)]
    if providers and not providers["cpu"].usable:
        problems.append(f"not even the CPU provider runs: {providers['cpu'].reason}")
    if providers and machine.gpus and not providers["cuda"].usable:
        problems.append(f"there is a GPU ({machine.gpus[0]}), but CUDA does not run: {providers['cuda'].reason}")
    problems += _weights_problems(weights)
    return Report(
        machine=machine,
        # What is installed beside them, too: a second OpenCV of the same version is no problem, but one should see it.
        packages={**{name: installed.get(name) for name in _PACKAGES}, **dict(sorted(installed.items()))},
        providers=providers,
        weights=weights,
        problems=tuple(problems),
    )


def duplicates(installed: Mapping[str, str]) -> list[str]:
    """Return a sentence for each set of distributions that overwrite each other's files.

    Two builds of ONNX Runtime always clash. Two of OpenCV clash only at different versions; Ultralytics and
    Albumentations bring one each.

    Args:
        installed: version by distribution name.
    """
    problems = []
    runtimes = {name: installed[name] for name in _ONNXRUNTIMES if name in installed}
    if len(runtimes) > 1:
        problems.append(
            f"{_versions(runtimes)} overwrite each other; keep one: pip uninstall -y {' '.join(runtimes)}, then "
            f"pip install onnxruntime-gpu (or onnxruntime)"
        )
    opencvs = {name: installed[name] for name in _OPENCVS if name in installed}
    if len(set(opencvs.values())) > 1:
        newest = max(opencvs.values(), key=_version_key)
        wanted = " ".join(f"{name}=={newest}" for name in opencvs)
        problems.append(
            f"{_versions(opencvs)} write the same cv2; bring them to one version: "
            f"pip install --force-reinstall {wanted}"
        )
    return problems


def _versions(distributions: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in distributions.items())


def _version_key(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _installed() -> dict[str, str]:
    found = {}
    for name in {*_PACKAGES, *_ONNXRUNTIMES, *_OPENCVS}:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _broken_imports() -> list[str]:
    """Return a sentence for each package of the base install that does not import."""
    problems = []
    for name, remedy in _IMPORT_REMEDIES.items():
        try:
            import_module(name)
        except ImportError as error:
            problems.append(f"{name} does not load ({error}); {remedy}")
    return problems


def _providers() -> dict[str, ProviderState]:
    from drivetl.runtime import PROVIDERS

    return {name: _try_provider(name) for name in PROVIDERS}


def _try_provider(name: str) -> ProviderState:
    """Run `PROBE_GRAPH` on a provider and look at the answer."""
    import numpy as np

    from drivetl.runtime.requirements import missing_for
    from drivetl.runtime.session import ORT_ERRORS, open_session

    missing = missing_for(name)
    if missing:
        return ProviderState(False, missing)
    refusals: tuple[type[Exception], ...] = (DrivetlError, *ORT_ERRORS)
    ones = np.ones((1, 1, 2, 2), np.float32)
    try:
        doubled = open_session(PROBE_GRAPH, name, threads=1, where="the probe").run("y", "x", ones)
    except refusals as error:
        return ProviderState(False, str(error).strip().splitlines()[0])
    if not np.array_equal(doubled, 2 * ones):
        return ProviderState(
            False, f"it computes wrongly: 2 x 1 gave {doubled.ravel().tolist()}; reinstall onnxruntime"
        )
    return ProviderState(True, None)


def _weights() -> Weights:
    from drivetl.yolo.environment import cache_dir
    from drivetl.yolo.weights import list_weights

    cache = cache_dir()
    found = {entry.name: str(entry.path) for entry in list_weights() if entry.path is not None}
    return Weights(found, str(cache), _writable(cache))


def _weights_problems(weights: Weights) -> Iterable[str]:
    if not weights.cache_writable:
        yield f"the cache {quoted(weights.cache)} cannot be written; set DRIVETL_CACHE to a folder that can"
    own = os.environ.get("DRIVETL_WEIGHTS")
    if own and not expanded(own, "DRIVETL_WEIGHTS").is_dir():
        yield f"DRIVETL_WEIGHTS names {quoted(own)}, which is no folder; correct it or unset it"


def _writable(folder: Path) -> bool:
    """Try to write into a folder, or where it does not exist yet, into the parent that it would be made in."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


def _cpu_name() -> str:
    for line in _lines_of(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    for line in _lines_of(Path("/proc/meminfo")):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024 / _GIB
    return None


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _gpus() -> tuple[str, ...]:
    """Return what nvidia-smi lists, one GPU a line; nothing where it is absent, fails or hangs."""
    gpus = []
    for row in ask_nvidia_smi(("name", "memory.total", "driver_version")) or ():
        name, memory, driver = row.values()
        if name:
            gpus.append(name + (f", {memory} MiB" if memory else "") + (f", driver {driver}" if driver else ""))
    return tuple(gpus)
