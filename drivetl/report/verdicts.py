"""What a run says about the model, one sentence a question: yes, no, or open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drivetl.cores import disturbed, load_sentence
from drivetl.report.evidence import overfitting

__all__ = ["refusal", "verdicts"]

_Verdict = tuple[str, str]
_MOST_PROBLEMS = 3


def refusal(document: Mapping[str, Any]) -> str:
    """Return why a gate said no, from the JSON of its verb or from the one that stands for its error."""
    problems = [
        str(problem) if not isinstance(problem, Mapping) else f"{problem.get('file')}: {problem.get('message')}"
        for problem in document.get("problems") or ()
    ]
    if not problems:
        error = document.get("error")
        return str(error.get("message")) if isinstance(error, Mapping) else "it gives no reason"
    more = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
    return "; ".join([*problems[:_MOST_PROBLEMS], *more])


def verdicts(
    stages: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    weight_curve: Sequence[Mapping[str, Any]],
    refused: Mapping[str, str] | None = None,
) -> list[_Verdict]:
    """Return mark (``good``, ``bad``, ``open``) and sentence of each question that the run has an answer to.

    ``refused`` names the gates that said no, each with the reason; they come first.
    """
    refused = refused or {}
    found: list[_Verdict | None] = [
        ("bad", f"The gate {name} did not pass, and the run stopped there: {reason.rstrip('.')}.")
        for name, reason in refused.items()
    ]
    found += [_gain(stages), _retention(weight_curve), _weakest(stages)]
    # What a gate answers is said once, by its refusal if it refused.
    gates = {"verify": _parity, "bench": _latency, "check": _leakage}
    found += [answer(stages) for name, answer in gates.items() if name not in refused]
    found.append(_fit(log))
    return [entry for entry in found if entry is not None]


def _gain(stages: Mapping[str, Any]) -> _Verdict | None:
    before = stages.get("zero_shot", {})
    if before.get("per_class") and set(before.get("missing_classes") or ()) == before["per_class"].keys():
        return "open", "Before, the model had no class of the target, so there is nothing to compare the adapted with."
    compared = stages.get("compare")
    if compared is not None:
        figure = compared["headline"]["map50_95"]
        if figure["difference"] is None:
            return "open", "The pictures hold no box to compare the models on."
        mark = {"better": "good", "worse": "bad"}.get(figure["verdict"], "open")
        chance = "" if figure["p_value"] is None else f", p {figure['p_value']:.3f}"
        verdict = {"better": "is better", "worse": "is worse"}.get(figure["verdict"], "cannot be told from before")
        return mark, f"On the target the adapted model {verdict}: {figure['difference']:+.3f} mAP50-95{chance}."
    if not {"zero_shot", "adapted"} <= stages.keys():
        return None
    values = [stages[name]["map50_95"] for name in ("zero_shot", "adapted")]
    if None in values:
        return "open", "The pictures hold no box to compare the models on."
    change = values[1] - values[0]
    return "open", f"On the target mAP50-95 changed by {change:+.3f}; the run did not compare the two by bootstrap."


def _retention(points: Sequence[Mapping[str, Any]]) -> _Verdict | None:
    chosen = next((point for point in points if point.get("chosen")), None)
    start = next((point for point in points if point["share"] == 0), None)
    if chosen is None or start is None or chosen.get("retention") is None or not start.get("retention"):
        return None
    before, after = float(start["retention"]), float(chosen["retention"])
    kept = after / before
    mark = "good" if kept >= 0.95 else "bad" if kept < 0.8 else "open"
    return mark, f"Of the source, {kept:.0%} of the accuracy is kept: mAP50-95 {before:.3f} before, {after:.3f} after."


def _weakest(stages: Mapping[str, Any]) -> _Verdict | None:
    slices = stages.get("adapted", {}).get("slices")
    if not slices:
        return None
    entry = slices["weakest"] or slices["weakest_boxes"]
    if entry is None:
        return "open", "No condition has enough boxes to say where the model is weakest."
    sure = entry["p_value"] is not None and entry["p_value"] < 0.05 and entry["difference"] < 0
    words = "surely below the mean" if sure else "not surely below the mean"
    name = f"{entry['by'][0]} {entry['value'][0]}"
    return "bad" if sure else "open", f"Weakest condition: {name}, mAP50-95 {entry['map50_95']:.3f}, {words}."


def _parity(stages: Mapping[str, Any]) -> _Verdict | None:
    if "verify" not in stages:
        return None
    passed = stages["verify"]["passed"]
    return (
        ("good", "The bundle gives what the weights give.")
        if passed
        else (
            "bad",
            "The bundle does not give what the weights give.",
        )
    )


def _latency(stages: Mapping[str, Any]) -> _Verdict | None:
    if "bench" not in stages:
        return None
    bench = stages["bench"]
    figures = bench["latency_ms"]["end_to_end"]
    busy = f" {load_sentence(bench['load'])}" if disturbed(bench.get("load")) else ""
    # A bench of few frames gives no p99; the slowest frame is at least as bad.
    name, worst = ("slowest frame", figures["max"]) if figures["p99"] is None else ("p99", figures["p99"])
    if bench.get("budget_ms") is None:
        return (
            "open",
            f"Latency: {name} {worst:.1f} ms on {bench['provider']}; the run has no budget to hold it against.{busy}",
        )
    mark, word = ("good", "within") if bench.get("passed") else ("bad", "over")
    return (
        mark,
        f"Latency: {name} {worst:.1f} ms on {bench['provider']}, {word} the budget of {bench['budget_ms']:g} ms.{busy}",
    )


def _leakage(stages: Mapping[str, Any]) -> _Verdict | None:
    if "check" not in stages:
        return None
    ok = stages["check"].get("ok")
    return (
        ("good", "No picture or group stands on two sides of a split, and the labels are sound.")
        if ok
        else ("bad", "The dataset check found problems.")
    )


def _fit(log: Sequence[Mapping[str, Any]]) -> _Verdict | None:
    if not log:
        return None
    sentence = overfitting(log)
    return "bad" if "Overfitting:" in sentence else "good" if "No sign" in sentence else "open", sentence
