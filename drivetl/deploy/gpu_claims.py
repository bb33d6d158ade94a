"""Claims about NVIDIA hardware, and what of a command's answer makes one hold."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from drivetl.runtime import PROVIDERS

__all__ = ["GATE_FAILED", "Answer", "Claim", "Run", "Verdict", "judged"]

Verdict = Literal["held", "failed", "refused"]

GATE_FAILED = 1
_NO_SLOWER = 1.03
# On an H100 the graph of yolo11n took 0.45 of the time of its nodes. One that recorded nothing takes all of it.
_GRAPH_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said.

    Attributes:
        status: exit status.
        document: its JSON; empty where it printed none.
        words: the last line that it wrote for people.
    """

    status: int
    document: dict[str, Any]
    words: str

    @property
    def reason(self) -> str:
        """The error's sentence."""
        error = self.document.get("error")
        return str(error["message"]) if isinstance(error, dict) else self.words or f"exit status {self.status}"


Run = Callable[[Sequence[str]], Answer]


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim and its verdict.

    Attributes:
        name: ``provider proof``, ``parity``, ``latency``, ``rewriting`` (made for CPUs, and no slower here),
            ``CUDA graph`` (equal to node by node, and faster), ``graph latency`` or, of int8, ``never run``: its
            bundles are made for processors.
        provider: ``cuda`` or ``tensorrt``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        verdict: ``held``, ``failed`` (measured, and it is not so) or ``refused`` (it could not be checked here).
        reason: for the last two, the sentence that says why.
        figures: what was measured.
        command: what was run; empty where it did not come to that.
    """

    name: str
    provider: str
    precision: str
    verdict: Verdict
    reason: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    command: str = ""


def _proof(document: dict[str, Any], provider: str) -> tuple[str, dict[str, Any]]:
    nodes = document["nodes_per_provider"]
    foreign = sorted(set(nodes) - {PROVIDERS[provider]})
    fault = f"nodes ran on {', '.join(foreign)}" if foreign else "" if nodes else "no node was assigned"
    if document["provider"] != provider:
        fault = f"it ran on {document['provider']}"
    return fault, {"nodes_per_provider": nodes}


def _latency(document: dict[str, Any], provider: str) -> tuple[str, dict[str, Any]]:
    whole, alone = document["latency_ms"]["end_to_end"], document["latency_ms"]["inference"]
    figures = {"end_to_end_p50_ms": whole["p50"], "end_to_end_p99_ms": whole["p99"], "inference_p50_ms": alone["p50"]}
    figures["budget_ms"] = document["budget_ms"]
    if figures["budget_ms"] is None:
        return "it was held against no budget, which nothing can miss", figures
    return "; ".join(document.get("problems", ())) if not document["passed"] else "", figures


def _same(document: dict[str, Any], provider: str) -> tuple[str, dict[str, Any]]:
    keys = ("matched", "max_abs_diff_scores", "max_abs_diff_px", "delta_map50_95")
    return "; ".join(document["problems"]), {key: document[key] for key in keys}


def _no_slower(document: dict[str, Any], provider: str) -> tuple[str, dict[str, Any]]:
    inference = document["stages"]["inference"]
    ratio = inference["ratio"]
    fault = f"it takes {ratio:.3f} times as long as the graph of the exporter" if ratio > _NO_SLOWER else ""
    return fault, {"ours_ms": inference["ours_ms"], "as_exported_ms": inference["theirs_ms"], "ratio": ratio}


def _replay(document: dict[str, Any], provider: str) -> tuple[str, dict[str, Any]]:
    # The same kernels on the same numbers: replaying them may not change a bit. Nor does recording nothing, which is
    # node by node once more, so only the time tells that there is a graph.
    different, ms = document["max_abs_diff"], document["p50_ms"]
    fault = f"the replayed output differs by {different:g}" if different != 0 else ""
    if not fault and ms["graph"] > _GRAPH_SHARE * ms["nodes"]:
        fault = (
            f"the graph takes {ms['graph']:g} ms and node by node {ms['nodes']:g} ms, not clearly more: "
            "it may have recorded nothing; of a network too large for launching kernels to count, that is no proof: "
            "check with yolo11n"
        )
    return fault, {"max_abs_diff": different, "p50_ms": ms}


def _graph_latency(document: dict[str, Any], provider: str) -> tuple[str, dict[str, Any]]:
    fault, figures = _latency(document, provider)
    return fault if document["cuda_graph"] else "it was measured node by node, without a CUDA graph", figures


_JUDGES: dict[str, Callable[[dict[str, Any], str], tuple[str, dict[str, Any]]]] = {
    "provider proof": _proof,
    "parity": _same,
    "latency": _latency,
    "rewriting": _no_slower,
    "CUDA graph": _replay,
    "graph latency": _graph_latency,
}


def judged(name: str, provider: str, precision: str, words: Sequence[str], answer: Answer) -> Claim:
    """Return the claim of that name with the verdict that a command's answer allows.

    Args:
        name: of `Claim`, all but ``never run``.
        provider: ``cuda`` or ``tensorrt``.
        precision: ``fp32`` or ``fp16``.
        words: the command.
        answer: what it said.
    """
    command = shlex.join(words)
    if answer.status > GATE_FAILED or not answer.document or "error" in answer.document:
        return Claim(name, provider, precision, "refused", answer.reason, command=command)
    try:
        fault, figures = _JUDGES[name](answer.document, provider)
    except (KeyError, TypeError) as error:
        reason = f"the answer lacks {error}; the installed drivetl is another version"
        return Claim(name, provider, precision, "refused", reason, command=command)
    return Claim(name, provider, precision, "failed" if fault else "held", fault, figures, command)
