"""Every claim about NVIDIA hardware, checked where there is some: one JSON document and one table.

    python -m drivetl.deploy.gpu_check WEIGHTS [--data DATASET [--split val]] --out FOLDER

Each claim is a command of drivetl's own, run as a user would run it, and its answer is taken as it is. A claim that
cannot be checked here is refused with the reason; nothing falls back to the CPU, and nothing is left out. Latency is
held against the budget of the profile rtx-workstation, the rate of a camera: without one no figure would be wrong.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from drivetl import __version__
from drivetl.deploy.gpu_claims import GATE_FAILED, Answer, Claim, Run, Verdict, judged
from drivetl.errors import DrivetlError, OutputError
from drivetl.files import write_json
from drivetl.yolo.packaged import PACKAGED
from drivetl.yolo.weights import is_published_name, resolve_weights

__all__ = ["GpuCheck", "Road", "gpu_check", "main", "table"]

_SCHEMA_VERSION = 1
_GPU_PROVIDERS = ("cuda", "tensorrt")
_INT8 = "int8"
_PRECISIONS = ("fp32", "fp16", _INT8)
_MOST_POINTS = "100"  # no model can lose more, so that the export refuses nothing for its accuracy
_FRAMES = "1000"  # the fewest that give a p99
_CAMERA_HZ = "30"
_PROFILE = "rtx-workstation"
_REPORT = "gpu-check.json"
_ENGINES = "engines"
_REASON_WIDTH = 76


@dataclass(frozen=True, slots=True)
class Road:
    """Pictures for parity and for calibrating int8.

    Attributes:
        data: a dataset with the split train.
        split: its split that parity is checked on.
    """

    data: str
    split: str


@dataclass(frozen=True, slots=True)
class GpuCheck:
    """All claims.

    Attributes:
        weights: that were exported.
        data: dataset of the parity checks, or None.
        doctor: what ``drivetl doctor`` says of the machine.
        claims: in the order in which they were checked.
    """

    weights: str
    data: str | None
    doctor: dict[str, Any]
    claims: tuple[Claim, ...]

    @property
    def passed(self) -> bool:
        """Whether every claim held."""
        return all(claim.verdict == "held" for claim in self.claims)

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            "schema_version": _SCHEMA_VERSION,
            "drivetl": __version__,
            "passed": self.passed,
            "weights": self.weights,
            "data": self.data,
            "claims": [asdict(claim) for claim in self.claims],
            "doctor": self.doctor,
        }


def gpu_check(weights: str, road: Road | None, out: Path, run: Run) -> GpuCheck:
    """Check every claim for every provider and precision.

    Args:
        weights: a checkpoint, or the name of published weights.
        road: pictures; None leaves parity and int8 unchecked, and they are refused.
        out: folder for the bundles.
        run: carries out a command; `command` does so in a process, a test answers by itself.
    """
    doctor = run(("drivetl", "doctor", "--json")).document
    claims: list[Claim] = []
    for provider in _GPU_PROVIDERS:
        state = doctor.get("providers", {}).get(provider, {})
        if not state.get("usable"):
            reason = str(state.get("reason") or "drivetl doctor says nothing about it")
            claims += [claim for precision in _PRECISIONS for claim in _refused(provider, precision, reason)]
    usable = [provider for provider in _GPU_PROVIDERS if doctor.get("providers", {}).get(provider, {}).get("usable")]
    fault, words = _fetch(weights, run) if usable else ("", "")
    for precision in _PRECISIONS if usable else ():
        if fault:
            claims += [c for provider in usable for c in _refused(provider, precision, fault, words)]
        else:
            claims += _with_precision(precision, usable, weights, road, out, run)
    return GpuCheck(weights, None if road is None else road.data, doctor, tuple(claims))


def _fetch(weights: str, run: Run) -> tuple[str, str]:
    """Download published weights that are not on this machine; return what is wrong where that fails, and the command.

    What has no published name is left to the export, which says what is wrong with it.
    """
    name = weights.removesuffix(".pt")
    try:
        resolve_weights(weights)
    except DrivetlError:
        if is_published_name(name) or name in PACKAGED:
            words = ("drivetl", "weights", "get", name, "--json")
            answer = run(words)
            return (answer.reason if answer.status else ""), shlex.join(words)
    return "", ""


def _names(provider: str, precision: str) -> tuple[str, ...]:
    if precision == _INT8:
        return ("never run",)
    return (
        "provider proof",
        "parity",
        "latency",
        "rewriting",
        *(["CUDA graph", "graph latency"] if provider == "cuda" else []),
    )


def _refused(provider: str, precision: str, reason: str, command: str = "") -> list[Claim]:
    return [
        Claim(name, provider, precision, "refused", reason, command=command) for name in _names(provider, precision)
    ]


def _with_precision(
    precision: str, providers: Sequence[str], weights: str, road: Road | None, out: Path, run: Run
) -> list[Claim]:
    bundle = out / precision
    if precision == _INT8 and road is None:
        reason = "int8 is calibrated on pictures of the road: give DATA=DATASET"
        return [claim for provider in providers for claim in _refused(provider, precision, reason)]
    words = ["drivetl", "export", weights, "--out", str(bundle), "--precision", precision, "--overwrite", "--json"]
    if road is not None:
        # What it costs there is for processors to say; here the claim is that a GPU refuses the bundle.
        int8 = ["--calibrate", road.data, "--max-drop", _MOST_POINTS] if precision == _INT8 else []
        words += ["--golden", road.data, *int8]
    made = run(words)
    if made.status:
        return [c for provider in providers for c in _refused(provider, precision, made.reason, shlex.join(words))]
    if precision == _INT8:
        return [_never_run(provider, bundle, run) for provider in providers]
    run([*words[:4], str(_plain(bundle)), *words[5:], "--as-exported"])  # where it fails, the comparison says why
    return [claim for provider in providers for claim in _on_provider(provider, precision, bundle, weights, road, run)]


def _plain(bundle: Path) -> Path:
    """Return where the same weights lie as the exporter gave them."""
    return bundle.with_name(f"{bundle.name}-as-exported")


def _place(provider: str, bundle: Path) -> list[str]:
    """Return the options that say where to run; TensorRT takes minutes for an engine, so every command shares one."""
    kept = ["--engine-cache", str(bundle.with_name(_ENGINES))] if provider == "tensorrt" else []
    return ["--provider", provider, *kept]


def _on_provider(provider: str, precision: str, bundle: Path, weights: str, road: Road | None, run: Run) -> list[Claim]:
    place = _place(provider, bundle)
    words = ["drivetl", "bench", str(bundle), *place, "--iterations", _FRAMES]
    words += ["--profile", _PROFILE, "--paced-hz", _CAMERA_HZ, "--json"]
    timed = run(words)
    claims = [
        judged("provider proof", provider, precision, words, timed),
        _parity(provider, precision, bundle, weights, road, run),
        judged("latency", provider, precision, words, timed),
    ]
    beside = ["drivetl", "bench", str(bundle), "--versus", str(_plain(bundle)), *place, "--json"]
    claims.append(judged("rewriting", provider, precision, beside, run(beside)))
    if provider == "cuda":
        alone = ["python", "-m", "drivetl.deploy.cuda_graph", str(bundle)]
        claims.append(judged("CUDA graph", provider, precision, alone, run(alone)))
        whole = [*words, "--cuda-graph"]
        claims.append(judged("graph latency", provider, precision, whole, run(whole)))
    return claims


def _never_run(provider: str, bundle: Path, run: Run) -> Claim:
    words = ["drivetl", "bench", str(bundle), "--provider", provider, "--json"]
    answer, command = run(words), shlex.join(words)
    if "error" not in answer.document:
        return Claim("never run", provider, _INT8, "failed", "an int8 bundle ran, or said nothing", command=command)
    right = answer.status == GATE_FAILED and f"is {_INT8}, made for processors" in answer.reason
    return Claim("never run", provider, _INT8, "held" if right else "failed", answer.reason, command=command)


def _parity(provider: str, precision: str, bundle: Path, weights: str, road: Road | None, run: Run) -> Claim:
    if road is None:
        return Claim("parity", provider, precision, "refused", "parity is checked on pictures: give DATA=DATASET")
    words = ["drivetl", "verify", str(bundle), "--weights", weights, "--data", road.data, "--split", road.split]
    words += [*_place(provider, bundle), "--json"]
    return judged("parity", provider, precision, words, run(words))


def table(result: GpuCheck) -> list[str]:
    """Return the claims as lines for people; what all claims of a provider share is said once."""
    lines = [f"{'claim':<15} {'provider':<9} {'precision':<9} {'verdict':<8} figures or reason"]
    last = ""
    for claim in result.claims:
        said = claim.reason or ", ".join(f"{key} {_shown(value)}" for key, value in claim.figures.items())
        texts = ["as above"] if said and said == last else textwrap.wrap(said, _REASON_WIDTH) or [""]
        last = said
        head = f"{claim.name:<15} {claim.provider:<9} {claim.precision:<9} {claim.verdict:<8} "
        lines += [head + texts[0], *(" " * len(head) + text for text in texts[1:])]
    counts = {verdict: sum(claim.verdict == verdict for claim in result.claims) for verdict in get_args(Verdict)}
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return lines


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def command(words: Sequence[str]) -> Answer:
    """Run ``drivetl …`` or ``python …`` in a process of this interpreter; its progress goes to this screen."""
    module = ["-m", "drivetl", *words[1:]] if words[0] == "drivetl" else list(words[1:])
    print(f"$ {shlex.join(words)}", file=sys.stderr, flush=True)
    last = ""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        with subprocess.Popen(
            [sys.executable, *module], stdout=said, stderr=subprocess.PIPE, text=True, errors="replace"
        ) as child:
            for line in child.stderr or ():
                sys.stderr.write(line)
                sys.stderr.flush()  # an engine is built for minutes, and whoever waits should see that
                last = line.strip() or last
        said.seek(0)
        try:
            document = json.load(said)
        except ValueError:
            document = {}
    return Answer(child.returncode, document if isinstance(document, dict) else {}, last)


def main(words: Sequence[str] | None = None, run: Run = command) -> int:
    """Check, print the table and write the JSON; exit status 0 only where every claim held."""
    parser = argparse.ArgumentParser(prog="python -m drivetl.deploy.gpu_check")
    parser.add_argument("weights", help="a checkpoint, or the name of published weights")
    parser.add_argument("--data", help="dataset for parity and int8; int8 is calibrated on its split train")
    parser.add_argument("--split", default="val", help="split of the dataset that parity is checked on")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"))
    chosen = parser.parse_args(words)
    road = None if chosen.data is None else Road(chosen.data, chosen.split)
    result = gpu_check(chosen.weights, road, chosen.out, run)
    try:
        chosen.out.mkdir(parents=True, exist_ok=True)
        write_json(chosen.out / _REPORT, result.document(), overwrite=True)
    except (OSError, OutputError) as error:
        print(f"gpu-check: error: cannot write {chosen.out / _REPORT}: {error}", file=sys.stderr)
        return 2
    print("\n".join(table(result)))
    print(f"all of it: {chosen.out / _REPORT}", file=sys.stderr)
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
