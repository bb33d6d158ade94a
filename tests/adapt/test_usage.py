"""Pictures a second and memory: counted right, in the log and in the result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.run_folder import RunFolder
from drivetl.adapt.training import train
from drivetl.adapt.usage import Usage, peak_memory_mib, totals

from .conftest import draw_dataset

Configure = Callable[..., TrainConfig]


def test_the_rate_is_of_the_training_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    usage = Usage(torch.device("cpu"))
    usage.start()
    for _ in range(3):
        usage.add(8)
    now[0] += 4
    usage.stop()
    now[0] += 60  # validation
    line = usage.line()
    assert (line["pictures"], line["pictures_per_second"], line["peak_gpu_memory_mib"]) == (24, 6.0, None)


def test_peak_memory_is_what_the_kernel_says() -> None:
    measured = peak_memory_mib()
    status = Path("/proc/self/status").read_text()
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    assert measured is not None
    assert measured == pytest.approx(kib / 1024, rel=0.02)


def test_totals_weigh_epochs_by_their_time() -> None:
    lines = [
        json.dumps({"pictures": 10, "pictures_per_second": 10.0, "peak_memory_mib": 900.0}),
        json.dumps({"pictures": 10, "pictures_per_second": 2.0, "peak_memory_mib": 700.0}),
        json.dumps({"epoch": 3}),  # of an older version
    ]
    assert totals(lines) == {
        "pictures": 20,
        "pictures_per_second": pytest.approx(20 / 6, abs=1e-3),
        "peak_memory_mib": 900.0,
        "peak_gpu_memory_mib": None,
    }


def test_the_log_and_the_result_say_what_a_run_cost(configure: Configure, tmp_path: Path) -> None:
    source = draw_dataset(tmp_path / "source", train=4)
    result = train(configure(epochs=2, replay=source, replay_ratio=0.5), tmp_path / "run")
    lines = [json.loads(line) for line in RunFolder(tmp_path / "run").log.read_text().splitlines()]
    assert [line["pictures"] for line in lines] == [6, 6], "four of the target and two that are replayed"
    document = result.document()
    assert document["pictures"] == 12 and document["pictures_per_second"] > 0
    assert 100 < document["peak_memory_mib"] == max(line["peak_memory_mib"] for line in lines)
