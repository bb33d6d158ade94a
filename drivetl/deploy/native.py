"""The exact command that builds a device's native engine from a bundle: NVIDIA's trtexec, OpenVINO's ovc.

The letterbox before and the decoding after the engine are what ``contract.json`` says; the engine is only the graph.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drivetl.deploy.export import GraphOptions
from drivetl.deploy.profiles import Profile
from drivetl.errors import ConfigError, quoted
from drivetl.runtime import Contract
from drivetl.runtime.bundle import MODEL_FILE

__all__ = ["NativeBuild", "check_for", "native_build"]


@dataclass(frozen=True, slots=True)
class NativeBuild:
    """How the engine comes about on the device.

    Attributes:
        profile: name of the hardware profile.
        tool: ``trtexec`` or ``ovc``; None where ONNX Runtime takes model.onnx as it is.
        command: one line for the device's shell; None likewise.
        notes: what a person should know.
    """

    profile: str
    tool: str | None
    command: str | None
    notes: str

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return asdict(self)


def check_for(name: str, profile: Profile, options: GraphOptions, size_hw: tuple[int, int] | None) -> None:
    """Refuse, before a bundle is made, what the profile's hardware could not build.

    Args:
        name: of the profile, for messages.
        profile: the hardware.
        options: of the export.
        size_hw: height and width of the input, None where the weights decide.

    Raises:
        ConfigError: precision or size are not the profile's, CUDA cannot run open dimensions, TensorRT would not know
            their range, or cannot take the graph.
    """
    if profile.precision not in (None, options.precision):
        raise ConfigError(
            f"the profile {quoted(name)} is about {profile.precision}, not {options.precision}; "
            f"give --precision {profile.precision}, or another profile"
        )
    if profile.input_size_hw is not None and size_hw != profile.input_size_hw:
        side = "x".join(str(side) for side in profile.input_size_hw)
        raise ConfigError(f"the profile {quoted(name)} is about inputs of {side}; give --imgsz {side}")
    if profile.provider == "cuda" and options.precision == "int8":
        raise ConfigError(
            f"CUDA, which {quoted(name)} runs on, has no kernel for some operators of drivetl's int8 graphs, which are "
            "made for processors; ship fp16 there"
        )
    if profile.provider == "cuda" and options.dynamic:
        raise ConfigError(
            f"CUDA, which {quoted(name)} runs on, leaves the arithmetic of open dimensions to the CPU, where no "
            "part of a bundle runs unasked; leave --dynamic out and give --imgsz the size that the camera needs"
        )
    if profile.provider != "tensorrt":
        return
    if options.dynamic and options.size_range_hw is None:
        raise ConfigError(
            f"TensorRT, which {quoted(name)} runs on, builds its engine for a range of shapes; give --size-range "
            "SMALLEST,LARGEST (such as 320x320,640x640) with --dynamic, or leave --dynamic out"
        )
    if options.precision == "int8":
        # Its type UINT8 "cannot be used to represent quantized floating-point values" (API reference, DataType).
        raise ConfigError(
            f"TensorRT, which {quoted(name)} runs on, takes signed 8-bit activations, and drivetl's int8 graphs have "
            "unsigned ones, which processors are fast at; ship fp16 there"
        )


def native_build(name: str, profile: Profile, bundle: Path, contract: Contract) -> NativeBuild:
    """Return the command that builds the engine of a bundle on a profile's hardware.

    Args:
        name: of the profile.
        profile: the hardware.
        bundle: the folder, as the command will name it.
        contract: what is in it.
    """
    if profile.provider == "tensorrt":
        return NativeBuild(
            name,
            "trtexec",
            _trtexec(bundle, contract),
            "Run it on the device itself: an engine fits one GPU and one TensorRT version. --stronglyTyped keeps each "
            "layer in the graph's own precision (TensorRT 10; 11 does so anyway).",
        )
    if profile.provider == "cpu":
        return NativeBuild(
            name,
            "ovc",
            _ovc(bundle, contract),
            "Weights stay as they are. OpenVINO may compute in bfloat16 where a processor can: set "
            "INFERENCE_PRECISION_HINT=f32 for the figures that drivetl verify proved.",
        )
    return NativeBuild(
        name, None, None, "Nothing to build: ONNX Runtime runs model.onnx on CUDA; --provider cuda proves it."
    )


def _trtexec(bundle: Path, contract: Contract) -> str:
    words = ["trtexec", f"--onnx={bundle / MODEL_FILE}", f"--saveEngine={bundle / 'model.engine'}"]
    words += [f"--timingCacheFile={bundle / 'timing.cache'}", "--stronglyTyped", "--noTF32", "--skipInference"]
    if contract.dynamic:
        for option, shape in zip(("min", "opt", "max"), contract.shape_ranges(), strict=True):
            words.append(f"--{option}Shapes={contract.input_name}:{'x'.join(str(side) for side in shape)}")
    return shlex.join(words)


def _ovc(bundle: Path, contract: Contract) -> str:
    low, _, high = contract.shape_ranges()
    sides = [f"{a}..{b}" if a != b else str(a) for a, b in zip(low, high, strict=True)]
    if contract.dynamic and contract.size_range_hw is None:
        sides = [side if axis == contract.channel_axis else "?" for axis, side in enumerate(sides)]
    shape = f"{contract.input_name}[{','.join(sides)}]"
    target = bundle / "openvino" / "model.xml"
    words = ["ovc", str(bundle / MODEL_FILE), "--output_model", str(target), "--input", shape]
    return shlex.join([*words, "--compress_to_fp16=False"])
