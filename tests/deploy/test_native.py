"""The command for a device's own engine says what the contract says, and what cannot be built is refused before."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivetl.deploy import GraphOptions, check_for, load_profile, native_build
from drivetl.errors import BundleError, ConfigError
from drivetl.runtime import Contract, open_bundle

ORIN, X86, RTX = "jetson-orin-nano", "x86-cpu", "rtx-workstation"
FP16 = GraphOptions(precision="fp16")


def _command(name: str, bundle: Path, contract: Contract) -> list[str]:
    command = native_build(name, load_profile(name), bundle, contract).command
    assert command is not None
    return shlex.split(command)


def test_trtexec_keeps_the_graphs_own_precision_and_asks_for_no_shapes(tiny_bundle: Callable[..., Path]) -> None:
    words = _command(ORIN, Path("my bundles/fog"), open_bundle(tiny_bundle()).contract)
    assert words[0] == "trtexec"
    assert {"--onnx=my bundles/fog/model.onnx", "--saveEngine=my bundles/fog/model.engine"} < set(words)
    assert {"--stronglyTyped", "--noTF32"} < set(words)
    # TensorRT refuses shapes for a graph that has none open, and --fp16 beside --stronglyTyped.
    assert not any("Shapes" in word or word in ("--fp16", "--int8") for word in words)


def test_a_dynamic_bundle_names_its_ranges(tiny_bundle: Callable[..., Path]) -> None:
    fixed = open_bundle(tiny_bundle()).contract
    contract = replace(fixed, dynamic=True, batch=4, size_range_hw=((32, 32), (64, 96)))
    words = _command(ORIN, Path("b"), contract)
    ranges = {"--minShapes=images:1x3x32x32", "--optShapes=images:4x3x64x64", "--maxShapes=images:4x3x64x96"}
    assert ranges < set(words)
    assert "images[1..4,3,32..64,32..96]" in _command(X86, Path("b"), contract)
    assert "images[?,3,?,?]" in _command(X86, Path("b"), replace(contract, size_range_hw=None))
    picture = replace(contract, input_name="images_bgr", input_dtype="uint8")
    assert "--maxShapes=images_bgr:4x64x96x3" in _command(ORIN, Path("b"), picture)


def test_cuda_needs_no_engine(tiny_bundle: Callable[..., Path]) -> None:
    build = native_build(RTX, load_profile(RTX), Path("b"), open_bundle(tiny_bundle()).contract)
    assert build.command is None and "Nothing to build" in build.notes
    assert build.document()["tool"] is None


@pytest.mark.parametrize(
    ("profile", "options", "sentence"),
    [
        (ORIN, GraphOptions(), "is about fp16, not fp32; give --precision fp16"),
        (ORIN, replace(FP16, dynamic=True), "give --size-range SMALLEST,LARGEST"),
    ],
)
def test_what_the_hardware_could_not_build_is_refused(profile: str, options: GraphOptions, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_for(profile, load_profile(profile), options, None)


def test_unsigned_activations_and_another_size_are_refused() -> None:
    orin = load_profile(ORIN).model_copy(update={"precision": None})
    with pytest.raises(ConfigError, match="signed 8-bit activations"):
        check_for("mine", orin, GraphOptions(precision="int8"), None)
    with pytest.raises(ConfigError, match=r"CUDA, which 'rtx-workstation' runs on, has no kernel .* ship fp16 there"):
        check_for(RTX, load_profile(RTX).model_copy(update={"precision": None}), GraphOptions(precision="int8"), None)
    with pytest.raises(ConfigError, match=r"CUDA, which 'rtx-workstation' runs on, .*leave --dynamic out"):
        check_for(RTX, load_profile(RTX), replace(FP16, dynamic=True, size_range_hw=((64, 64), (96, 96))), None)
    sized = load_profile(X86).model_copy(update={"input_size_hw": (384, 640)})
    with pytest.raises(ConfigError, match="give --imgsz 384x640"):
        check_for("mine", sized, GraphOptions(), (640, 640))
    check_for("mine", sized, GraphOptions(), (384, 640))
    check_for(ORIN, load_profile(ORIN), replace(FP16, dynamic=True, size_range_hw=((64, 64), (96, 96))), None)


def _open(document: dict[str, Any]) -> None:
    document["input"]["dynamic"] = {"sizes_hw": None}


def test_tensorrt_refuses_open_dimensions_without_a_range(tiny_bundle: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match=r"export it again with --size-range, or without --dynamic"):
        open_bundle(tiny_bundle(change=_open)).session("tensorrt")


def test_openvinos_own_tool_takes_the_command(tiny_bundle: Callable[..., Path], tmp_path: Path) -> None:
    ovc = shutil.which("ovc")
    assert ovc is not None, "it comes with openvino, of the extra 'dev'"
    bundle = tiny_bundle()
    words = _command(X86, bundle, open_bundle(bundle).contract)
    done = subprocess.run([ovc, *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (bundle / "openvino" / "model.xml").is_file()
