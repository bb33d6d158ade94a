"""`make gpu-check` at its seams: fakes answer for the machine that is not here, and this machine for itself."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from drivetl.deploy.cuda_graph import cuda_graph as measured
from drivetl.deploy.cuda_graph import main as cuda_graph
from drivetl.deploy.gpu_check import Road, command, gpu_check, main, table
from drivetl.deploy.gpu_claims import Answer
from drivetl.deploy.quantise import Int8Options, quantise
from drivetl.errors import BundleError, ConfigError, DatasetError
from drivetl.runtime import Bundle, Contract
from drivetl.runtime.replay import Replay
from drivetl.runtime.requirements import missing_for
from drivetl.runtime.session import Session

USABLE = {"cpu": {"usable": True}, "cuda": {"usable": True}, "tensorrt": {"usable": True}}
ROAD = Road("road", "test")
EP = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


class Machine:
    """Answers like one with a GPU on which everything holds; `change` spoils answers of one kind."""

    def __init__(self, providers: dict[str, Any] | None = None, **change: Any) -> None:
        self.providers = USABLE if providers is None else providers
        self.change = change
        self.asked: list[str] = []

    def __call__(self, words: Sequence[str]) -> Answer:
        self.asked.append(" ".join(words))
        kind = words[1] if words[0] == "drivetl" else "graph"
        provider = words[words.index("--provider") + 1] if "--provider" in words else ""
        ms = {"p50": 2.0, "p99": 3.0}
        documents: dict[str, dict[str, Any]] = {
            "doctor": {"providers": self.providers},
            "weights": {"path": "w"},
            "export": {"bundle": "b"},
            "bench": {
                "provider": provider,
                "nodes_per_provider": {EP.get(provider, ""): 120},
                "cuda_graph": "--cuda-graph" in words,
                "latency_ms": {"end_to_end": ms, "inference": ms},
                "passed": True,
                "budget_ms": 33.3,
                "stages": {"inference": {"ours_ms": 2.0, "theirs_ms": 2.0, "ratio": 1.0}},
            },
            "verify": {
                "problems": [],
                "matched": 1.0,
                "max_abs_diff_scores": 1e-5,
                "max_abs_diff_px": 1e-3,
                "delta_map50_95": 0.0,
            },
            "graph": {"max_abs_diff": 0.0, "p50_ms": {"nodes": 2.9, "graph": 1.3}},
        }
        if kind == "bench" and words[2].endswith("int8"):
            documents["bench"] = {"error": {"message": "'b' is int8, made for processors"}}
            return Answer(1, {**documents["bench"], **self.change.get("int8", {})}, "")
        status, changes = self.change.get(kind, (0, {}))
        return Answer(status, {**documents[kind], **changes}, "")


@pytest.fixture(autouse=True)
def own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights with yolo11n in it, and a cache with none."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "yolo11n.pt").touch()
    monkeypatch.setenv("DRIVETL_WEIGHTS", str(folder))
    monkeypatch.setenv("DRIVETL_CACHE", str(tmp_path / "cache"))
    return folder


def _verdicts(machine: Machine, road: Road | None = ROAD) -> dict[tuple[str, str, str], tuple[str, str]]:
    result = gpu_check("yolo11n", road, Path("out"), machine)
    assert result.passed == all(claim.verdict == "held" for claim in result.claims)
    json.dumps(result.document(), allow_nan=False)
    return {(c.name, c.provider, c.precision): (c.verdict, c.reason) for c in result.claims}


def test_on_a_machine_with_a_gpu_every_claim_is_checked_and_holds() -> None:
    machine = Machine()
    found = _verdicts(machine)
    # Proof, parity, latency, rewriting: two providers, two precisions; CUDA's graph twice for each precision;
    # int8 refused by both.
    assert len(found) == 2 * 2 * 4 + 2 * 2 + 2 and {verdict for verdict, _ in found.values()} == {"held"}
    assert sum("--cuda-graph" in asked and "bench" in asked for asked in machine.asked) == 2
    assert sum(asked.startswith("drivetl export") for asked in machine.asked) == 5
    beside = [asked for asked in machine.asked if "--versus" in asked]
    assert len(beside) == 4 and "drivetl bench out/fp16 --versus out/fp16-as-exported --provider cuda --json" in beside
    timed = [asked for asked in machine.asked if "drivetl bench out/fp" in asked and asked not in beside]
    assert len(timed) == 6 and all("--profile rtx-workstation" in asked for asked in timed)
    assert any("--precision int8" in asked and "--calibrate road" in asked for asked in machine.asked)
    assert sum("verify" in asked and "--data road --split test" in asked for asked in machine.asked) == 4
    lines = table(gpu_check("yolo11n", ROAD, Path("out"), Machine()))
    assert lines[-1] == "22 held, 0 failed, 0 refused"
    assert any("CUDAExecutionProvider 120" in line for line in lines)


def test_published_weights_that_are_not_here_are_fetched_and_others_are_not(own_weights: Path) -> None:
    def fetched(weights: str, machine: Machine) -> list[str]:
        gpu_check(weights, ROAD, Path("out"), machine)
        return [asked for asked in machine.asked if "weights get" in asked]

    assert fetched("yolo11n", Machine()) == fetched("yolo11n.pt", Machine()) == []
    assert fetched(str(own_weights / "yolo8n.pt"), Machine()) == fetched("mine.pt", Machine()) == []
    machine = Machine()
    assert fetched("yolo11s.pt", machine) == ["drivetl weights get yolo11s --json"]
    assert machine.asked.index("drivetl weights get yolo11s --json") < machine.asked.index(
        "drivetl export yolo11s.pt --out out/fp32 --precision fp32 --overwrite --json --golden road"
    )
    assert fetched("yolov3-tiny-coco", Machine()) == ["drivetl weights get yolov3-tiny-coco --json"]
    assert fetched("yolo11s", Machine({})) == [], "where nothing is checked, nothing is downloaded"


def test_where_the_weights_cannot_be_fetched_every_claim_says_why(own_weights: Path) -> None:
    (own_weights / "yolo11n.pt").unlink()
    machine = Machine(weights=(2, {"error": {"message": "github.com cannot be reached"}}))
    found = _verdicts(machine)
    assert len(found) == 22 and set(found.values()) == {("refused", "github.com cannot be reached")}
    assert machine.asked == ["drivetl doctor --json", "drivetl weights get yolo11n --json"]


def test_a_provider_that_is_not_there_is_refused_with_its_reason_and_costs_nothing() -> None:
    reason = "no NVIDIA driver is installed"
    none = {name: {"usable": False, "reason": reason} for name in EP}
    machine = Machine(none)
    found = _verdicts(machine)
    assert len(found) == 22 and set(found.values()) == {("refused", reason)}
    assert machine.asked == ["drivetl doctor --json"]
    assert sum("as above" in line for line in table(gpu_check("w", None, Path("out"), machine))) == 21


def test_nodes_on_the_processor_are_a_broken_claim_not_a_footnote() -> None:
    spoilt = Machine(bench=(0, {"nodes_per_provider": {EP["cuda"]: 100, "CPUExecutionProvider": 3}}))
    found = _verdicts(spoilt)
    assert found["provider proof", "cuda", "fp32"] == ("failed", "nodes ran on CPUExecutionProvider")
    other = _verdicts(Machine(bench=(0, {"provider": "cpu"})))
    assert other["provider proof", "cuda", "fp32"] == ("failed", "it ran on cpu")


@pytest.mark.parametrize(
    ("change", "claim", "verdict", "reason"),
    [
        ({"verify": (1, {"problems": ["raw scores differ"]})}, "parity", "failed", "raw scores differ"),
        ({"bench": (1, {"passed": False, "problems": ["too slow"]})}, "latency", "failed", "too slow"),
        (
            {"bench": (0, {"budget_ms": None})},
            "latency",
            "failed",
            "it was held against no budget, which nothing can miss",
        ),
        ({"bench": (1, {"error": {"message": "no cuDNN"}})}, "latency", "refused", "no cuDNN"),
        (
            {"bench": (0, {"stages": {"inference": {"ours_ms": 2.1, "theirs_ms": 2.0, "ratio": 1.05}}})},
            "rewriting",
            "failed",
            "it takes 1.050 times as long as the graph of the exporter",
        ),
        ({"graph": (0, {"max_abs_diff": 0.5})}, "CUDA graph", "failed", "the replayed output differs by 0.5"),
        (
            {"bench": (0, {"cuda_graph": False})},
            "graph latency",
            "failed",
            "it was measured node by node, without a CUDA graph",
        ),
        ({"bench": (1, {"passed": False, "problems": ["too slow"]})}, "graph latency", "failed", "too slow"),
        ({"export": (2, {"error": {"message": "no such weights"}})}, "parity", "refused", "no such weights"),
        ({"verify": (2, {})}, "parity", "refused", "exit status 2"),
    ],
)
def test_what_a_command_says_becomes_the_verdict(change: dict[str, Any], claim: str, verdict: str, reason: str) -> None:
    assert _verdicts(Machine(**change))[claim, "cuda", "fp32"] == (verdict, reason)


@pytest.mark.parametrize(("graph_ms", "verdict"), [(1.3, "held"), (2.3, "held"), (2.4, "failed"), (3.0, "failed")])
def test_a_graph_that_is_as_slow_as_its_nodes_has_recorded_nothing(graph_ms: float, verdict: str) -> None:
    found = _verdicts(Machine(graph=(0, {"p50_ms": {"nodes": 2.9, "graph": graph_ms}})))["CUDA graph", "cuda", "fp16"]
    assert found[0] == verdict and ("it may have recorded nothing" in found[1]) == (verdict == "failed")


def test_tensorrt_builds_the_engine_of_a_bundle_once_and_cuda_has_none() -> None:
    machine = Machine()
    gpu_check("yolo11n", ROAD, Path("out"), machine)
    on_it = [asked for asked in machine.asked if "--provider tensorrt" in asked and "out/int8" not in asked]
    assert len(on_it) == 2 * 3 and all("--engine-cache out/engines" in asked for asked in on_it)
    assert {asked.split()[1] for asked in on_it} == {"bench", "verify"}
    others = [asked for asked in machine.asked if asked not in on_it]
    assert others and not any("--engine-cache" in asked for asked in others)


def test_whether_a_gpu_refuses_int8_does_not_depend_on_what_int8_costs(tmp_path: Path) -> None:
    contract: Any = None
    machine = Machine()
    gpu_check("yolo11n", ROAD, Path("out"), machine)
    (asked,) = [words for words in machine.asked if "--precision int8" in words]
    most = float(asked.split()[asked.split().index("--max-drop") + 1])
    assert most == 100, "an average precision cannot fall by more points"
    # The options are taken: the first thing that is wrong is the dataset.
    with pytest.raises(DatasetError):
        quantise(None, tmp_path, contract, Int8Options(tmp_path / "none", None, max_drop=most))
    with pytest.raises(ConfigError, match="--max-drop must be 0 to 100"):
        quantise(None, tmp_path, contract, Int8Options(tmp_path / "none", None, max_drop=most + 1))


def test_an_answer_that_does_not_say_whether_there_was_a_graph_proves_none() -> None:
    def older(words: Sequence[str]) -> Answer:
        answer = Machine()(words)
        answer.document.pop("cuda_graph", None)
        return answer

    claims = gpu_check("yolo11n", ROAD, Path("out"), older).claims
    said = {(claim.name, claim.precision): claim for claim in claims if claim.provider == "cuda"}
    assert said["latency", "fp32"].verdict == "held" and said["graph latency", "fp32"].verdict == "refused"
    assert "the answer lacks 'cuda_graph'" in said["graph latency", "fp32"].reason


def test_an_int8_bundle_that_runs_on_a_gpu_is_a_broken_claim() -> None:
    other = _verdicts(Machine(int8={"error": {"message": "no kernel for QLinearConv"}}))
    assert other["never run", "tensorrt", "int8"] == ("failed", "no kernel for QLinearConv")

    def ran(words: Sequence[str]) -> Answer:
        return Answer(0, {"passed": True}, "") if words[2:3] == ["out/int8"] else Machine()(words)

    found = {(c.name, c.provider): c.verdict for c in gpu_check("w", ROAD, Path("out"), ran).claims}
    assert found["never run", "cuda"] == found["never run", "tensorrt"] == "failed"


def test_without_a_dataset_parity_and_int8_are_refused_and_the_rest_is_checked() -> None:
    found = _verdicts(Machine(), road=None)
    assert found["parity", "cuda", "fp16"][0] == "refused" and "DATA=" in found["parity", "cuda", "fp16"][1]
    assert found["latency", "cuda", "fp16"][0] == "held" and found["never run", "cuda", "int8"][0] == "refused"


def test_the_command_writes_one_json_and_its_status_is_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["yolo11n", "--data", "road", "--out", str(tmp_path / "out")], Machine()) == 0
    document = json.loads((tmp_path / "out" / "gpu-check.json").read_text(encoding="utf-8"))
    assert document["passed"] and len(document["claims"]) == 22
    assert "22 held" in capsys.readouterr().out
    assert main(["yolo11n", "--out", str(tmp_path / "out")], Machine({})) == 1
    (tmp_path / "file").touch()
    assert main(["yolo11n", "--out", str(tmp_path / "file")], Machine({})) == 2


class OnTheCpu(Replay):
    """The same calls without a GPU; from the ``stale``-th run on, a replay that computes nothing."""

    stale = 1_000_000

    def __init__(self, session: Session, contract: Contract) -> None:
        super().__init__(session, contract, "cpu")
        self.runs = 0

    def run(self) -> None:
        self.runs += 1
        if self.runs < self.stale:
            super().run()


class Stale(OnTheCpu):
    """It records, as ONNX Runtime does in its second run, and replays nothing."""

    stale = 3


@pytest.mark.parametrize(("replay", "equal"), [(OnTheCpu, True), (Stale, False)])
def test_a_graph_that_replays_nothing_is_found(
    replay: type[OnTheCpu], equal: bool, tiny_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter((replay, OnTheCpu))  # the graph first, then node by node
    session = Bundle.session
    monkeypatch.setattr(Bundle, "session", lambda self, provider, *, cuda_graph: session(self))
    monkeypatch.setattr("drivetl.deploy.cuda_graph.Replay", lambda *given: next(made)(*given))
    document = measured(tiny_bundle(), runs=2)
    assert (document["max_abs_diff"] == 0) is equal, document


def test_a_network_that_says_the_same_of_everything_proves_no_replay(
    tiny_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(model: Any) -> None:
        weight = next(value for value in model.graph.initializer if value.name == "weight")
        weight.CopyFrom(numpy_helper.from_array(np.zeros((6, 3, 8, 8), np.float32), "weight"))

    session = Bundle.session
    monkeypatch.setattr(Bundle, "session", lambda self, provider, *, cuda_graph: session(self))
    monkeypatch.setattr("drivetl.deploy.cuda_graph.Replay", OnTheCpu)
    with pytest.raises(BundleError, match="the same output for two different frames"):
        measured(tiny_bundle(graph=blind), runs=2)


@pytest.mark.skipif(missing_for("cuda") is None, reason="this machine can run CUDA")
def test_a_cuda_graph_on_this_machine_is_refused_with_the_reason(
    tiny_bundle: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cuda_graph([str(tiny_bundle())]) == 1
    assert "cuda was asked for and cannot run here" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_real_command_is_run_and_its_sentence_kept(tmp_path: Path) -> None:
    answer = command(["drivetl", "bench", str(tmp_path / "nowhere"), "--json"])
    assert answer.status == 2 and "nowhere' is missing" in answer.reason


def test_what_a_command_says_meanwhile_is_seen_at_once_and_its_last_line_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[tuple[float, str]] = []
    screen = SimpleNamespace(write=lambda text: heard.append((time.monotonic(), text)), flush=lambda: None)
    monkeypatch.setattr("sys.stderr", screen)
    # More than a pipe holds on either side, so that reading one of them only would hang.
    code = (
        "import sys, time\nprint('building', file=sys.stderr, flush=True)\ntime.sleep(2)\n"
        "sys.stdout.write('[' + '1,' * 200_000 + '1]')\nsys.stderr.write('word ' * 50_000 + '\\n')\n"
        "print('the end \\udcff', file=sys.stderr)\nprint(file=sys.stderr)\nsys.exit(3)"
    )
    answer = command(["python", "-c", code])
    ended = time.monotonic()
    assert answer.status == 3 and answer.document == {} and answer.reason.startswith("the end")
    building = next(at for at, text in heard if text == "building\n")
    assert ended - building >= 1, "it was kept back until the end"
    assert any(text.startswith("word word") for _, text in heard)
