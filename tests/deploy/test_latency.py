"""Latency: percentiles, budgets, stages, and that no number is given where the provider did not run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.deploy import Sampling, bench
from drivetl.deploy.latency import Percentiles
from drivetl.deploy.machine import describe_machine, peak_memory_mb
from drivetl.errors import BundleError, ConfigError, ImageError, ProviderUnavailable
from drivetl.runtime import Detector
from drivetl.runtime.session import missing_for

Make = Callable[..., Path]
FEW = Sampling(iterations=20, warm_up=2)


def test_percentiles_are_observed_times_by_nearest_rank() -> None:
    found = Percentiles.of(np.arange(1000, 0, -1, dtype=np.float64))
    assert found == Percentiles(p50=500, p90=900, p95=950, p99=990, max=1000)
    assert Percentiles.of(np.array([3.0])) == Percentiles(3, 3, 3, 3, 3)


def test_the_result_says_what_was_measured_on_what(tiny_bundle: Make) -> None:
    result = bench(tiny_bundle(), sampling=FEW, threads=1)
    document = result.document()
    assert document["provider"] == "cpu" and set(document["nodes_per_provider"]) == {"CPUExecutionProvider"}
    assert (document["samples"], document["warm_up"]) == (20, 2)
    assert document["threads"]["intra_op"] == 1 and document["threads"]["opencv"] >= 1
    assert document["picture"] == "synthetic" and document["picture_size_hw"] == (720, 1280)
    assert document["candidates"] >= document["detections"] > 0
    assert document["passed"] and document["budget_ms"] is None and document["deadline_miss_rate"] is None
    for stage in ("preprocess", "inference", "postprocess", "end_to_end"):
        ms = document["latency_ms"][stage]
        assert 0 < ms["p50"] <= ms["p90"] <= ms["p95"] <= ms["p99"] <= ms["max"]
    assert document["latency_ms"]["end_to_end"]["p50"] >= document["latency_ms"]["inference"]["p50"]


@pytest.mark.parametrize("stage", ["preprocess", "infer", "postprocess"])
def test_time_is_charged_to_the_stage_that_took_it(
    stage: str, tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(Detector, stage)

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return original(*arguments, **options)

    monkeypatch.setattr(Detector, stage, slow)
    latency = bench(tiny_bundle(), sampling=Sampling(iterations=5, warm_up=1)).latency_ms
    named = "inference" if stage == "infer" else stage
    assert latency[named].p50 >= 50 and latency["end_to_end"].p50 >= 50
    for other in {"preprocess", "inference", "postprocess"} - {named}:
        assert latency[other].p50 < 50


def test_a_budget_that_is_missed_fails_and_counts_the_misses(
    tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Detector.postprocess
    calls = iter(range(1_000_000))

    def every_fifth_is_late(*arguments: Any, **options: Any) -> Any:
        if next(calls) % 5 == 0:
            time.sleep(0.3)
        return original(*arguments, **options)

    monkeypatch.setattr(Detector, "postprocess", every_fifth_is_late)
    result = bench(tiny_bundle(), budget_ms=290, sampling=Sampling(iterations=10, warm_up=0))
    assert result.deadline_miss_rate == pytest.approx(0.2)
    assert not result.passed
    assert "over the budget of 290 ms" in result.problems[0]


def test_a_budget_that_is_kept_passes(tiny_bundle: Make) -> None:
    result = bench(tiny_bundle(), budget_ms=60_000, sampling=FEW)
    assert result.passed and result.deadline_miss_rate == 0.0


@pytest.mark.skipif(missing_for("cuda") is None, reason="this machine can run CUDA")
def test_a_gpu_that_cannot_run_gives_no_number(tiny_bundle: Make) -> None:
    with pytest.raises(ProviderUnavailable, match="cuda was asked for and cannot run here"):
        bench(tiny_bundle(), provider="cuda", sampling=FEW)


def test_a_picture_of_ones_own_is_used(tiny_bundle: Make, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((48, 96, 3), np.uint8))
    result = bench(tiny_bundle(), image=tmp_path / "dark.png", sampling=FEW)
    assert (result.picture, result.picture_size_hw) == ("dark.png", (48, 96))
    # Black scores zero; only the grey of the padding (114 of 255) is above the threshold of 0.25.
    assert result.candidates == 32


def test_the_comparison_with_a_bare_loop_alternates_five_blocks(tiny_bundle: Make) -> None:
    comparison = bench(tiny_bundle(), sampling=Sampling(iterations=5, warm_up=1, against_bare=True)).against_bare
    assert comparison is not None
    pairs = [mine / theirs for mine, theirs in zip(comparison.ours_p50_ms, comparison.bare_p50_ms, strict=True)]
    assert len(pairs) == 5
    assert comparison.ratio == pytest.approx(sorted(pairs)[2], abs=1e-4)


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., str]:
    def write(**values: Any) -> str:
        keys = {
            "provider": "cpu",
            "precision": "null",
            "threads": "null",
            "input_size_hw": "null",
            "budget_p99_ms": "null",
            "memory_mb": "null",
            "notes": "test",
            "sources": "{}",
        }
        path = tmp_path / "ecu.yaml"
        path.write_text("".join(f"{k}: {v}\n" for k, v in {**keys, **values}.items()), encoding="utf-8")
        return str(path)

    return write


def test_the_profile_gives_budget_threads_and_memory(tiny_bundle: Make, profile: Callable[..., str]) -> None:
    path = profile(budget_p99_ms=60000, threads=1, memory_mb=1, sources="{budget_p99_ms: a, threads: b, memory_mb: c}")
    result = bench(tiny_bundle(), profile=path, sampling=FEW)
    assert (result.budget_ms, result.threads["intra_op"], result.memory_limit_mb) == (60000, 1, 1)
    assert len(result.problems) == 1 and "the limit 1 MiB" in result.problems[0]


def test_options_come_before_the_profile(tiny_bundle: Make, profile: Callable[..., str]) -> None:
    path = profile(provider="cuda", budget_p99_ms=1, sources="{budget_p99_ms: a}")
    result = bench(tiny_bundle(), profile=path, provider="cpu", budget_ms=60_000, sampling=FEW)
    assert (result.provider, result.budget_ms) == ("cpu", 60_000)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"precision": "fp16"}, "is about fp16 and the bundle is fp32"),
        ({"input_size_hw": "[384, 640]", "sources": "{input_size_hw: a}"}, r"\(384, 640\).*\(64, 64\)"),
    ],
)
def test_a_profile_about_another_kind_of_bundle_is_refused(
    values: dict[str, Any], sentence: str, tiny_bundle: Make, profile: Callable[..., str]
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        bench(tiny_bundle(), profile=profile(**values), sampling=FEW)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sampling": Sampling(iterations=0)}, "--iterations"),
        ({"sampling": Sampling(warm_up=-1)}, "--warm-up"),
        ({"budget_ms": 0.0}, "--budget-ms"),
        ({"budget_ms": float("nan")}, "--budget-ms"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], sentence: str, tiny_bundle: Make) -> None:
    with pytest.raises(ConfigError, match=sentence):
        bench(tiny_bundle(), **options)


def test_what_is_no_bundle_or_no_picture_is_refused(tiny_bundle: Make, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle folder"):
        bench(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="does not exist"):
        bench(tiny_bundle(), image=tmp_path / "no.png")


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert machine["cpu"] and machine["logical_cores"] >= machine["usable_cores"] >= 1
    assert {"numpy", "opencv", "onnxruntime"} <= machine["versions"].keys()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_peak_memory_follows_what_is_occupied() -> None:
    before = peak_memory_mb()
    assert before is not None
    occupied = np.ones(int((before + 64) * (1 << 20)), np.uint8)
    after = peak_memory_mb()
    assert after is not None and after - before >= 60
    assert occupied[-1] == 1
