"""A latency before the hardware is there, with the error that such estimates have had where they could be checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drivetl.deploy.profiles import Profile, load_profile
from drivetl.deploy.roofline import Constants, Peaks, estimate_ms, graph_layers
from drivetl.errors import ConfigError, quoted
from drivetl.progress import Progress, silent, tracked
from drivetl.runtime import open_bundle

__all__ = ["ERROR", "T4", "T4_CONSTANTS", "T4_LATENCY_MS", "Prediction", "predict", "rank"]

# Ultralytics' documentation, TensorRT 10 fp16 at 640x640, n s m l x.
T4_LATENCY_MS = {"yolo11": (1.5, 2.5, 4.7, 6.2, 11.3), "yolo26": (1.7, 2.5, 4.7, 6.2, 11.8)}
# NVIDIA T4 data sheet: 65 TFLOPS mixed precision, 320 GB/s.
T4 = Peaks(65.0, 320.0)
# `drivetl.deploy.roofline.fit` over both families; a test fits them anew. Fitted on one family alone, they were off by
# at most 10 % on YOLO26 and 15 % on YOLO11; on another device (Orin NX, YOLOv8n, 3.19 ms published) by 8 %.
T4_CONSTANTS = Constants(compute=0.3239412621255767, memory=0.36987797685388296, overhead_ms=0.8471558414992382)
# Twice the largest of these errors: the other devices differ in more than their peaks.
ERROR = 0.3
# Ultralytics' documentation: mAP50-95 on COCO val2017 at 640, n s m l x.
_COCO_MAP = {"yolo11": (39.5, 47.0, 51.5, 53.4, 54.7), "yolo26": (40.9, 48.6, 53.1, 55.0, 57.5)}
_SIZES = "nsmlx"
_END_TO_END = "end_to_end"
_PUBLISHED_SIZE_HW = (640, 640)


@dataclass(frozen=True, slots=True)
class Prediction:
    """An estimate of one inference; preprocessing, postprocessing and copies to the device are not in it.

    Attributes:
        model: what was estimated.
        profile: name of the hardware profile.
        precision: of the profile.
        estimate_ms: milliseconds.
        low_ms, high_ms: the error bar, see `ERROR`.
        budget_ms: what was asked for or what the profile has, or None.
        budget_covers: what the budget is for: ``inference`` where it was asked for, ``end_to_end`` where it is the
            profile's; None without one.
        fits: ``yes`` if even ``high_ms`` keeps to the budget, ``no`` if not even ``low_ms`` does, else ``perhaps``;
            never ``yes`` where the budget covers more than the estimate. None without a budget.
    """

    model: str
    profile: str
    precision: str
    estimate_ms: float
    low_ms: float
    high_ms: float
    budget_ms: float | None
    budget_covers: str | None
    fits: str | None

    def document(self) -> dict[str, Any]:
        """Return the estimate as a JSON document."""
        return {
            **asdict(self),
            "measured": False,
            "estimate_covers": "inference",
            "method": "roofline for each convolution; constants fitted to published TensorRT latencies on an NVIDIA T4",
            "error_bar": ERROR,
        }


def predict(bundle: Path, profile: str, budget_ms: float | None = None) -> Prediction:
    """Estimate how long a bundle's network takes on hardware that a profile describes.

    Raises:
        BundleError: the bundle cannot be used.
        ConfigError: the profile cannot be used, is about another kind of bundle, or does not say what an estimate
            needs, or the budget is no positive number.
    """
    import onnx

    hardware = load_profile(profile)
    budget = _budget(budget_ms, hardware)
    peaks = _peaks(hardware, profile)
    opened = open_bundle(bundle)
    hardware.check(opened.contract, profile, remedy=f"export it with --precision {hardware.precision}")
    layers = graph_layers(onnx.load_from_string(opened.model), opened.contract.input_shape)
    return _prediction(bundle.name, layers, hardware, profile, peaks, budget)


def rank(profile: str, budget_ms: float | None = None, progress: Progress = silent) -> list[dict[str, Any]]:
    """Return the YOLO11 and YOLO26 sizes at 640x640: those that may fit first, the most accurate of them first.

    Accuracy is the published one on COCO; on a target domain sizes keep their order more often than their distance.

    Raises:
        ConfigError: the profile cannot be used, leaves unknown what an estimate needs, or nobody gives a budget that is
            a positive number.
        MissingExtraError: Ultralytics, which describes the networks, is not installed.
    """
    from drivetl.yolo.layers import conv_layers

    hardware = load_profile(profile)
    budget = _budget(budget_ms, hardware)
    peaks = _peaks(hardware, profile)
    if budget is None:
        raise ConfigError(f"the profile {quoted(profile)} has no budget; give one with --budget-ms")
    names = [(family, index) for family in _COCO_MAP for index in range(len(_SIZES))]
    rows = []
    for family, index in tracked(names, "networks", len(names), progress):
        name = f"{family}{_SIZES[index]}"
        found = _prediction(name, conv_layers(name, _PUBLISHED_SIZE_HW), hardware, profile, peaks, budget).document()
        rows.append({**found, "input_size_hw": list(_PUBLISHED_SIZE_HW), "coco_map50_95": _COCO_MAP[family][index]})
    return sorted(rows, key=lambda row: (row["fits"] == "no", -row["coco_map50_95"], row["estimate_ms"]))


def _budget(given: float | None, hardware: Profile) -> tuple[float, str] | None:
    """Return the budget in milliseconds and what it covers; None where nobody gives one."""
    if given is None:
        return None if hardware.budget_p99_ms is None else (hardware.budget_p99_ms, _END_TO_END)
    if not 0 < given < float("inf"):
        raise ConfigError(f"--budget-ms must be a positive number of milliseconds, not {quoted(given)}")
    return given, "inference"


def _peaks(hardware: Profile, name: str) -> Peaks:
    # First, because for another provider no number that could be entered helps.
    if hardware.provider != "tensorrt":
        raise ConfigError(
            f"the profile {quoted(name)} is about {hardware.provider}, and estimates are for TensorRT on NVIDIA GPUs "
            "alone; measure on the device"
        )
    needed = {
        "precision": hardware.precision,
        "peak_tflops": hardware.peak_tflops,
        "bandwidth_gb_s": hardware.bandwidth_gb_s,
    }
    unknown = [key for key, value in needed.items() if value is None]
    if unknown or hardware.peak_tflops is None or hardware.bandwidth_gb_s is None:
        raise ConfigError(
            f"the profile {quoted(name)} leaves {' and '.join(unknown)} unknown, without which an estimate would be a "
            "guess; enter them with their sources, or measure on the device"
        )
    return Peaks(hardware.peak_tflops, hardware.bandwidth_gb_s)


def _prediction(
    model: str,
    layers: Sequence[tuple[float, float]],
    hardware: Profile,
    profile: str,
    peaks: Peaks,
    budget: tuple[float, str] | None,
) -> Prediction:
    precision = str(hardware.precision)
    found = estimate_ms(layers, peaks, T4_CONSTANTS, precision)
    low, high = found / (1 + ERROR), found / (1 - ERROR)
    budget_ms, covers = budget or (None, None)
    fits = None
    if budget_ms is not None:
        surely = high <= budget_ms and covers != _END_TO_END
        fits = "yes" if surely else "no" if low > budget_ms else "perhaps"
    return Prediction(
        model, profile, precision, round(found, 2), round(low, 2), round(high, 2), budget_ms, covers, fits
    )
