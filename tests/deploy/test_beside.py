"""Two bundles in turns: the slower one is seen to be slower, whichever is named first."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.deploy import Place, bench_beside
from drivetl.errors import BundleError, ConfigError

Make = Callable[..., Path]


def _heavy(model: Any) -> None:
    """Let the picture pass 40 blurs that change nothing of what comes out much."""
    from onnx import helper, numpy_helper

    kernel = np.zeros((3, 3, 7, 7), np.float32)
    kernel[range(3), range(3), 3, 3] = 1
    model.graph.initializer.append(numpy_helper.from_array(kernel, "same"))
    names = ["images", *(f"same{number}" for number in range(40))]
    blurs = [
        helper.make_node("Conv", [before, "same"], [after], pads=[3, 3, 3, 3])
        for before, after in itertools.pairwise(names)
    ]
    first = next(node for node in model.graph.node if "images" in node.input)
    first.input[list(first.input).index("images")] = names[-1]
    nodes = [*blurs, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def test_the_heavier_bundle_is_the_slower_on_either_side(tiny_bundle: Make) -> None:
    light, heavy = tiny_bundle("light"), tiny_bundle("heavy", graph=_heavy)
    found = bench_beside(light, heavy, place=Place(threads=1), iterations=40)
    assert found.frames == 40 and found.detections[0] == found.detections[1] and found.precision == ("fp32", "fp32")
    inference = found.stages["inference"]
    assert inference.ratio < 0.8 and inference.ours_ms < inference.theirs_ms
    assert inference.lowest <= inference.ratio <= inference.highest
    assert bench_beside(heavy, light, place=Place(threads=1), iterations=40).stages["inference"].ratio > 1.25


@pytest.mark.parametrize(
    ("cores", "said"), [(1.6, "these are figures of a disturbed machine"), (0.1, "0.1 cores busy")]
)
@pytest.mark.parametrize("versus", ["bundle", "ultralytics"])
def test_the_load_stands_beside_the_figures(
    versus: str, cores: float, said: str, tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = tiny_bundle("light")
    load = {"other_programs_cores": cores, "clock_mhz_before": None, "clock_mhz_after": None, "throttle_events": None}
    monkeypatch.setattr("drivetl.deploy.machine.Load.document", lambda self: load)
    words = ["bench", str(light), "--versus", str(light) if versus == "bundle" else versus, "--iterations", "10"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert f"Other programs kept {cores:g} cores busy" in done.stdout and said in done.stdout
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["load"] == load


def test_the_verb_says_how_many_times_faster(tiny_bundle: Make) -> None:
    light, heavy = tiny_bundle("light"), tiny_bundle("heavy", graph=_heavy)
    words = ["bench", str(light), "--versus", str(heavy), "--threads", "1", "--iterations", "40"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    row = next(line for line in done.stdout.splitlines() if line.startswith("inference"))
    assert float(row.split()[3]) > 1.25
    assert f"A: {light}, fp32" in done.stdout and f"B: {heavy}, fp32" in done.stdout
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert document["bundles"] == [str(light), str(heavy)] and document["stages"]["end_to_end"]["ratio"] < 1


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        (["--versus", "nowhere"], BundleError, "nowhere"),
        (["--versus", "ultralytics", "--provider", "cuda"], ConfigError, "leave --provider cuda out"),
        (["--versus", "nowhere", "--profile", "x86-cpu"], ConfigError, "--versus has no use for --profile; leave"),
        (["--versus", "nowhere", "--predict", "x", "--warm-up", "3"], ConfigError, "no use for --predict, --warm-up;"),
        (["--versus", "ultralytics", "--engine-cache", "x"], ConfigError, "no use for --engine-cache;"),
        (["--predict", "jetson-orin-nano", "--paced-hz", "30"], ConfigError, "--predict has no use for --paced-hz;"),
        (["--predict", "jetson-orin-nano", "--provider", "cpu"], ConfigError, "--predict has no use for --provider;"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    words: list[str], error: type[Exception], sentence: str, tiny_bundle: Make
) -> None:
    done = CliRunner().invoke(app, ["bench", str(tiny_bundle()), *words])
    assert isinstance(done.exception, error) and sentence in str(done.exception)
