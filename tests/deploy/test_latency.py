"""Latency: percentiles, budgets, stages, and that no number is given where the provider did not run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.deploy import GraphOptions, Place, Sampling, bench, export
from drivetl.deploy.machine import Load, describe_machine, int8_saturates, int8_warning, peak_memory_mb
from drivetl.deploy.tails import Percentiles, histogram, intervals, jitter_ms, series
from drivetl.errors import BundleError, ConfigError, ImageError, ProviderUnavailable
from drivetl.runtime import Bundle, Detector, open_bundle
from drivetl.runtime.requirements import missing_for

Make = Callable[..., Path]
FEW = Sampling(iterations=20, warm_up=2)


def test_percentiles_are_observed_times_by_nearest_rank() -> None:
    found = Percentiles.of(np.arange(1000, 0, -1, dtype=np.float64))
    assert found == Percentiles(p50=500, p90=900, p95=950, p99=990, p99_9=None, max=1000)
    assert Percentiles.of(np.array([3.0])) == Percentiles(3, 3, 3, None, None, 3)


def test_the_result_says_what_was_measured_on_what(tiny_bundle: Make) -> None:
    result = bench(tiny_bundle(), sampling=FEW, place=Place(threads=1))
    document = result.document()
    assert document["provider"] == "cpu" and set(document["nodes_per_provider"]) == {"CPUExecutionProvider"}
    assert (document["samples"], document["warm_up"]) == (20, 2)
    assert document["threads"]["intra_op"] == 1 and document["threads"]["opencv"] >= 1
    assert document["picture"] == "synthetic" and document["picture_size_hw"] == (720, 1280)
    assert document["candidates"] >= document["detections"] > 0
    assert document["passed"] and document["budget_ms"] is None and document["deadline_miss_rate"] is None
    for stage in ("preprocess", "inference", "postprocess", "end_to_end"):
        ms = document["latency_ms"][stage]
        assert 0 < ms["p50"] <= ms["p90"] <= ms["p95"] <= ms["max"] and ms["p99"] is ms["p99_9"] is None
    assert document["throughput_hz"] > 0 and document["cold_start_ms"] > 0 and document["paced"] is None
    assert document["tails"]["intervals_ms"].keys() == {"p50", "p90", "p95"}
    assert sum(document["histogram"]["counts"]) == document["samples"]
    assert document["load"].keys() > {"other_programs_cores", "throttle_events"}
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


@pytest.mark.material
def test_the_times_of_a_graph_that_computes_several_pictures_are_said_to_be_those_of_all(
    material: Path, tiny_bundle: Make, tmp_path: Path
) -> None:
    assert bench(tiny_bundle(), sampling=FEW).warnings == ()
    export(material / "weights" / "yolo11n.pt", tmp_path / "four", options=GraphOptions(batch=4), size_hw=(64, 64))
    result = bench(tmp_path / "four", sampling=FEW)
    assert result.document()["batch"] == 4 and "4 pictures in every run" in result.warnings[0]


def test_a_budget_that_is_kept_passes(tiny_bundle: Make) -> None:
    result = bench(tiny_bundle(), budget_ms=60_000, sampling=FEW)
    assert result.passed and result.deadline_miss_rate == 0.0


def test_a_cuda_graph_is_for_cuda_and_has_no_bare_loop(tiny_bundle: Make) -> None:
    bundle = tiny_bundle()
    with pytest.raises(ProviderUnavailable, match="a CUDA graph was asked for on cpu, and drivetl replays"):
        bench(bundle, place=Place(cuda_graph=True), sampling=FEW)
    with pytest.raises(ConfigError, match="--against-bare or --cuda-graph"):
        bench(bundle, place=Place("cuda", cuda_graph=True), sampling=Sampling(against_bare=True))


@pytest.mark.skipif(missing_for("cuda") is None, reason="this machine can run CUDA")
def test_a_gpu_that_cannot_run_gives_no_number(tiny_bundle: Make) -> None:
    with pytest.raises(ProviderUnavailable, match="cuda was asked for and cannot run here"):
        bench(tiny_bundle(), place=Place("cuda"), sampling=FEW)


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


def test_the_cold_start_begins_with_opening_the_bundle(tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(bundle: Path) -> Bundle:
        time.sleep(0.3)
        return open_bundle(bundle)

    monkeypatch.setattr("drivetl.deploy.latency.open_bundle", slowly)
    assert bench(tiny_bundle(), sampling=FEW).cold_start_ms >= 300


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
    result = bench(tiny_bundle(), profile=path, place=Place("cpu"), budget_ms=60_000, sampling=FEW)
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
        ({"sampling": Sampling(iterations=10**14)}, "--iterations"),
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
@pytest.mark.parametrize(
    ("flags", "saturates"),
    [("fpu avx2", True), ("avx2 avx_vnni", False), ("avx512f avx512_vnni", False), ("avx512f", True), (None, None)],
)
def test_an_int8_bundle_is_warned_of_where_products_saturate(
    flags: str | None, saturates: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: X\n" + (f"flags\t\t: {flags}\n" if flags else ""))
    monkeypatch.setattr("drivetl.deploy.machine._CPU_INFO", info)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert int8_saturates() is saturates
    assert (int8_warning({"processor": {"int8_saturates": False}}) is not None) is bool(saturates)
    assert int8_warning({"processor": {"int8_saturates": True}}) is None
    assert int8_warning(None) is int8_warning({}) is int8_warning({"processor": "nonsense"}) is None


def test_peak_memory_follows_what_is_occupied() -> None:
    before = peak_memory_mb()
    assert before is not None
    occupied = np.ones(int((before + 64) * (1 << 20)), np.uint8)
    after = peak_memory_mb()
    assert after is not None and after - before >= 60
    assert occupied[-1] == 1


def test_a_percentile_is_given_only_where_there_are_frames_enough_for_it() -> None:
    for count, p99, p99_9 in ((999, False, False), (1_000, True, False), (9_999, True, False), (10_000, True, True)):
        found = Percentiles.of(np.arange(1, count + 1, dtype=np.float64))
        assert (found.p99 is not None, found.p99_9 is not None) == (p99, p99_9)
    assert found.p99_9 == 9_990 and found.p99 == 9_900 and found.max == 10_000


def test_a_lost_frame_does_not_make_the_slowest_one_stand_for_the_p99() -> None:
    latency = np.arange(1, 1_000, dtype=np.float64)
    assert Percentiles.of(latency).p99 is None and "p99" not in intervals(latency)
    assert Percentiles.of(latency, lost=1).p99 == 990 and "p99" in intervals(latency, lost=1)
    assert series(latency, 995.0, lost=1)["deadline_miss_rate"] == 5 / 1_000


def test_nothing_is_trimmed(tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame in twenty is a hundred times slower: it stands in the figures as it was, in both loops."""
    original = Detector.postprocess
    calls = iter(range(1_000_000))

    def one_is_slow(*arguments: Any, **options: Any) -> Any:
        # The first call is the cold start; then come twenty frames back to back and twenty at a rate.
        if next(calls) in (7, 27):
            time.sleep(0.4)
        return original(*arguments, **options)

    monkeypatch.setattr(Detector, "postprocess", one_is_slow)
    result = bench(tiny_bundle(), sampling=Sampling(20, 0, paced_hz=50), budget_ms=390)
    assert result.paced is not None
    for figures in (result.latency_ms, result.paced.latency_ms):
        assert figures["end_to_end"].max >= 400 and figures["postprocess"].max >= 400
    assert result.deadline_miss_rate == pytest.approx(1 / 20)
    # At a rate, those that came while it was slow are lost, and that is a miss, too.
    assert result.paced.deadline_miss_rate is not None and result.paced.deadline_miss_rate >= 1 / 20
    assert [problem.partition(" is ")[0] for problem in result.problems] == [
        "the slowest frame end to end",
        "the slowest frame end to end at 50 Hz",
        *[late for late in result.problems if "overtaken by the next one" in late],
    ]
    assert len(result.problems) == 3


def test_frames_that_are_overtaken_are_lost_and_count_as_missed(
    tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Detector.infer

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return original(*arguments, **options)

    monkeypatch.setattr(Detector, "infer", slow)
    result = bench(tiny_bundle(), sampling=Sampling(20, 0, paced_hz=50), budget_ms=10_000)
    paced = result.paced
    assert paced is not None
    assert not result.passed and "overtaken by the next one" in result.problems[0]
    assert bench(tiny_bundle("no-budget"), sampling=Sampling(20, 0, paced_hz=50)).passed, "nobody asked for a gate"
    # 50 ms of work and a frame every 20 ms: at most every second frame, on a busy machine fewer.
    assert 10 <= paced.lost < 20
    assert paced.deadline_miss_rate == paced.lost / 20, "the others were well within ten seconds"
    # A frame waits for the one before, but never for a queue.
    ms = paced.latency_ms
    assert ms["end_to_end"].max <= 2 * (ms["preprocess"].max + ms["inference"].max + ms["postprocess"].max) + 25


def test_a_camera_that_is_slower_than_the_network_leaves_gaps(tiny_bundle: Make) -> None:
    begun = time.perf_counter()
    result = bench(tiny_bundle(), sampling=Sampling(10, 0, paced_hz=25))
    assert time.perf_counter() - begun >= 10 / 25
    assert result.paced is not None and result.paced.rate_hz == 25


def test_intervals_of_alike_neighbours_are_wider_than_of_independent_frames() -> None:
    rng = np.random.default_rng(0)
    independent = rng.normal(20, 1, 1000)
    alike = 20 + np.repeat(rng.normal(0, 1, 20), 50)  # the same spread, but it changes only every fifty frames
    narrow, wide = intervals(independent)["p50"], intervals(alike)["p50"]
    assert narrow[0] < float(np.median(independent)) < narrow[1]
    # The median of 1,000 normal values has a standard error of 1.2533 / sqrt(1000); the interval is 1.96 of it.
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * 1.2533 / 1000**0.5, rel=0.35)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert set(intervals(independent)) == {"p50", "p90", "p95", "p99"}
    assert intervals(independent) == intervals(independent)
    assert intervals(np.array([3.0])) == {}


def test_the_histogram_holds_every_frame_and_one_hiccup_does_not_squeeze_it() -> None:
    latency = np.random.default_rng(0).gamma(9, 2.0, 3_000)
    latency[7] = 900.0
    found = histogram(latency)
    edges, counts = found["edges_ms"], found["counts"]
    assert sum(counts) == 3_000 and len(edges) == len(counts) + 1 and edges == sorted(edges)
    assert counts == np.histogram(latency, edges)[0].tolist(), "numpy counts the same"
    assert edges[0] <= latency.min() and edges[-1] >= 900.0
    assert counts[-1] in (30, 31), "1 % beyond the 99th percentile; its rounding may take in one more"
    assert sum(histogram(np.full(5, 3.0))["counts"]) == sum(histogram(np.array([3.0]))["counts"]) + 4 == 5


def test_jitter_is_the_mean_step_from_frame_to_frame() -> None:
    assert jitter_ms(np.array([10.0, 12.0, 11.0, 11.0])) == pytest.approx(1.0)
    assert jitter_ms(np.array([10.0])) is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc")
def test_what_other_programs_do_meanwhile_is_told_apart_from_ones_own_work() -> None:
    code = "import time\nend = time.time() + 30\nwhile time.time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as burner:
        try:
            load = Load()
            time.sleep(1.0)
            others = load.document()["other_programs_cores"]
        finally:
            burner.kill()
    # The kernel counts in hundredths of a second, and on a busy machine the burner does not get a whole core.
    assert others is not None and others > 0.3


@pytest.mark.parametrize("hz", [0, -1, float("nan"), 1e6, 1e-300])
def test_a_rate_out_of_range_is_refused(hz: float, tiny_bundle: Make) -> None:
    with pytest.raises(ConfigError, match="--paced-hz"):
        bench(tiny_bundle(), sampling=Sampling(paced_hz=hz))
