"""The GPU of a figure, with a fake nvidia-smi on PATH: what it says, what it does not say, and where it is absent."""

from __future__ import annotations

import ctypes
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.deploy import Place, Sampling, bench, bench_beside, gpu_state
from drivetl.deploy.gpu_state import GpuWatch
from drivetl.nvidia import ask_nvidia_smi
from drivetl.runtime import Detector
from drivetl.runtime.first_gpu import FirstGpu, first_gpu

OWN, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
IDLE = "NVIDIA H100 80GB HBM3, 580.95.05, 81559, GPU-{}, 345, 31, 0x0000000000000001, 7, 512\n"
HOT = "NVIDIA H100 80GB HBM3, 580.95.05, 81559, GPU-{}, 1755, 88, 0x0000000000000424, 97, 2048\n"
SILENT = "Orin (nvgpu), 540.4.0, [N/A], GPU-{}, [Not Supported], N/A, [Unknown Error], [N/A], \n"
NOTHING = dict.fromkeys(("sm_clock_mhz", "temperature_c", "throttle_reasons", "utilisation_percent", "memory_used_mib"))
Smi = Callable[..., Path]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """Put an nvidia-smi on PATH that gives one answer after the other, and return what it was asked."""
    monkeypatch.setattr(gpu_state, "first_gpu", lambda: FirstGpu(None, f"GPU-{OWN}"))

    def make(*answers: str, refuse: str = "nothing", sleep_s: float = 0) -> Path:
        folder, asked = tmp_path / "bin", tmp_path / "asked"
        folder.mkdir()
        asked.touch()
        for number, answer in enumerate(answers, start=1):
            (folder / f"answer-{number}").write_text(answer, encoding="utf-8")
        (folder / "nvidia-smi").write_text(
            f'#!/bin/sh\ncase "$1" in *{refuse}*) echo "Field is not a valid field to query."; exit 2;; esac\n'
            f'echo "$@" >> {asked}\nsleep {sleep_s}\ncat {folder}/answer-$(wc -l < {asked})\n',
            encoding="utf-8",
        )
        (folder / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return asked

    return make


def test_before_and_after_are_those_of_the_gpu_that_cuda_takes(smi: Smi) -> None:
    asked = smi(*(HOT.format(OTHER) + line.format(OWN) for line in (IDLE, HOT)))
    watch = GpuWatch("tensorrt")
    assert len(asked.read_text().splitlines()) == 1, "before, when nothing of ours runs there"
    document = watch.document()
    assert document == {
        "name": "NVIDIA H100 80GB HBM3",
        "driver": "580.95.05",
        "memory_mib": 81559,
        "before": {
            "sm_clock_mhz": 345,
            "temperature_c": 31,
            "throttle_reasons": ["gpu_idle"],
            "utilisation_percent": 7,
            "memory_used_mib": 512,
        },
        "after": {
            "sm_clock_mhz": 1755,
            "temperature_c": 88,
            # A bit that NVML has no name for yet is not left out.
            "throttle_reasons": ["sw_power_cap", "sw_thermal_slowdown", "0x400"],
            "utilisation_percent": 97,
            "memory_used_mib": 2048,
        },
    }
    first, second = asked.read_text().splitlines()
    assert (
        first == second and first.endswith("--format=csv,noheader,nounits") and "clocks_event_reasons.active" in first
    )


def test_what_nvidia_smi_does_not_tell_is_null(smi: Smi) -> None:
    smi(SILENT.format(OWN), SILENT.format(OWN))
    found = GpuWatch("cuda").document()
    assert found == {
        "name": "Orin (nvgpu)",
        "driver": "540.4.0",
        "memory_mib": None,
        "before": NOTHING,
        "after": NOTHING,
    }


def test_an_older_driver_is_asked_by_its_own_name_of_the_reasons(smi: Smi) -> None:
    asked = smi(IDLE.format(OWN), HOT.format(OWN), refuse="clocks_event_reasons")
    found = GpuWatch("cuda").document()
    assert found is not None and found["after"]["throttle_reasons"] == ["sw_power_cap", "sw_thermal_slowdown", "0x400"]
    assert asked.read_text().count("clocks_throttle_reasons.active") == 2


def test_of_several_gpus_none_is_guessed_and_a_single_one_needs_no_uuid(
    smi: Smi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_state, "first_gpu", lambda: FirstGpu("NVIDIA H100 80GB HBM3", None))
    smi(IDLE.format(OWN) + IDLE.format(OTHER), IDLE.format(OTHER))
    found = GpuWatch("cuda").document()
    assert found is not None and found["before"] == NOTHING and found["after"]["sm_clock_mhz"] == 345
    assert found["name"] == "NVIDIA H100 80GB HBM3" and found["driver"] is None


def test_without_an_nvidia_smi_there_are_nulls_and_on_a_processor_nothing(
    smi: Smi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = smi()
    assert GpuWatch("cpu").document() is None and GpuWatch(None).document() is None
    assert asked.read_text() == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu_state, "first_gpu", lambda: FirstGpu("Orin", None))
    found = GpuWatch("cuda").document()
    assert found == {"name": "Orin", "driver": None, "memory_mib": None, "before": NOTHING, "after": NOTHING}


def test_an_nvidia_smi_that_hangs_costs_a_measurement_its_patience_and_no_more(
    smi: Smi, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(IDLE.format(OWN), sleep_s=30)
    monkeypatch.setattr("drivetl.nvidia._TIMEOUT_S", 0.3)
    begun = time.monotonic()
    assert ask_nvidia_smi(("name",)) is None
    found = GpuWatch("cuda").document()
    assert found is not None and found["before"] == found["after"] == NOTHING
    assert time.monotonic() - begun < 10


class Driver:
    """Answers like libcuda; `broken` names a call that fails."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken

    def cuInit(self, flags: int) -> int:
        return int(self.broken == "cuInit")

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = 5
        return int(self.broken == "cuDeviceGet" or ordinal != 0)

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"NVIDIA H100"
        return int(self.broken == "cuDeviceGetName" or device.value != 5 or size < 20)

    def cuDeviceGetUuid(self, raw: Any, device: Any) -> int:
        raw._obj[:] = OWN.bytes
        return int(self.broken == "cuDeviceGetUuid" or device.value != 5)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ("", ("NVIDIA H100", f"GPU-{OWN}")),
        ("cuInit", (None, None)),
        ("cuDeviceGet", (None, None)),
        ("cuDeviceGetName", (None, f"GPU-{OWN}")),
        ("cuDeviceGetUuid", ("NVIDIA H100", None)),
    ],
)
def test_the_driver_says_which_gpu_is_cudas_first(
    broken: str, found: tuple[str | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(broken))
    gpu = first_gpu()
    assert (gpu.name, gpu.uuid, gpu.multiprocessors) == (*found, None)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert first_gpu() == FirstGpu()


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is asked to run on CUDA run here."""
    for module in ("latency", "beside"):
        monkeypatch.setattr(f"drivetl.deploy.{module}.detector_at", lambda bundle, place, limits: Detector(bundle))


def test_a_figure_of_a_gpu_says_which_and_how_it_was(
    smi: Smi, on_the_cpu: None, tiny_bundle: Callable[..., Path]
) -> None:
    asked = smi(IDLE.format(OWN), HOT.format(OWN), IDLE.format(OWN), HOT.format(OWN))
    few = Sampling(5, 1)
    found = bench(tiny_bundle(), place=Place("cuda"), sampling=few).machine["gpu"]
    assert (found["before"]["sm_clock_mhz"], found["after"]["sm_clock_mhz"]) == (345, 1755)
    beside = bench_beside(tiny_bundle("a"), tiny_bundle("b"), place=Place("cuda"), iterations=10)
    assert beside.machine["gpu"] == found
    assert len(asked.read_text().splitlines()) == 4
    assert bench(tiny_bundle("on-cpu"), sampling=few).machine["gpu"] is None


def test_the_report_shows_it_in_one_line(smi: Smi, on_the_cpu: None, tiny_bundle: Callable[..., Path]) -> None:
    def printed(*words: str) -> str:
        done = CliRunner().invoke(app, ["bench", *words])
        assert done.exit_code == 0, done.output
        lines = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
        assert len(lines) <= 1
        return "".join(lines)

    smi(IDLE.format(OWN), HOT.format(OWN), IDLE.format(OWN), IDLE.format(OWN), SILENT.format(OWN), SILENT.format(OWN))
    bundle = str(tiny_bundle())
    assert printed(bundle, "--provider", "cuda", "--iterations", "5") == (
        "GPU NVIDIA H100 80GB HBM3, 81559 MiB, driver 580.95.05; from before to after SM 345 to 1755 MHz, 31 to 88 °C; "
        "held back by sw_power_cap, sw_thermal_slowdown, 0x400; 7 % used by others before"
    )
    assert "held back by nothing" in printed(bundle, "--versus", bundle, "--provider", "cuda", "--iterations", "10")
    assert printed(bundle, "--provider", "cuda", "--iterations", "5") == (
        "GPU Orin (nvgpu), ? MiB, driver 540.4.0; from before to after SM ? to ? MHz, ? to ? °C; held back by ?; "
        "? % used by others before"
    )
    assert printed(bundle, "--iterations", "5") == ""


def test_json_carries_it(smi: Smi, on_the_cpu: None, tiny_bundle: Callable[..., Path]) -> None:
    smi(IDLE.format(OWN), HOT.format(OWN))
    words = ["bench", str(tiny_bundle()), "--provider", "cuda", "--iterations", "5", "--json"]
    document = json.loads(CliRunner().invoke(app, words).stdout)
    assert document["machine"]["gpu"]["after"]["throttle_reasons"][0] == "sw_power_cap"
