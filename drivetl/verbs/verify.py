"""``drivetl verify``: is the bundle the model that it was exported from?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drivetl.errors import DrivetlError, quoted
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._engine import EngineCacheOption, EngineWatch, refuse_idle_cache
from drivetl.wording import counted

if TYPE_CHECKING:
    from drivetl.deploy import ParityResult
    from drivetl.runtime import Detector

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("verify")(verify)


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder.")],
    weights: Annotated[str, typer.Option("--weights", help="The weights that it was exported from.")],
    data: Annotated[Path, typer.Option("--data", help="Dataset folder or data.yaml with real pictures.")],
    split: Annotated[str, typer.Option("--split", help="Which split to compare on.")] = "val",
    provider: Annotated[
        Literal["cpu", "cuda", "tensorrt"], typer.Option("--provider", help="Where the bundle must run; no fallback.")
    ] = "cpu",
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Compare tensors on at most this many pictures; accuracy takes all."),
    ] = None,
    engine_cache: EngineCacheOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Hold a bundle against its weights: letterbox, raw tensors, detections and accuracy on real pictures.

    The verdict is written into the bundle. Exit status 1 beyond tolerance.

    Example: drivetl verify bundles/fog --weights runs/fog/weights/adapted.pt --data datasets/fog
    """
    from drivetl.deploy import Place, check_recordable, record_verification, verify_bundle
    from drivetl.yolo import resolve_weights

    refuse_idle_cache(provider, engine_cache)
    reporter = Reporter("verify", as_json)
    with reporter.working():
        checkpoint = resolve_weights(weights)
        check_recordable(bundle)
        with EngineWatch(reporter, provider, engine_cache) as watch:
            result = verify_bundle(
                bundle,
                checkpoint,
                data,
                split=split,
                place=Place(provider, engine_cache=engine_cache),
                limit=limit,
                accuracy=lambda detector: _accuracy(detector, checkpoint, data, split, reporter),
                progress=watch.progress,
            )
    document = {"bundle": str(bundle), "weights": str(checkpoint), "data": str(data), **result.document()}
    try:
        record_verification(bundle, result)
    except DrivetlError:
        # The disk may have filled meanwhile; what was found out is worth more than the file.
        verdict = "passed" if result.passed else f"not passed: {'; '.join(result.problems)}"
        reporter.finish(document, [*_lines(result), f"{verdict}; it stands here only, not in the bundle"])
        raise
    reporter.gate(
        document,
        _lines(result),
        result.passed,
        f"{quoted(bundle)} is not the model that it was exported from: {'; '.join(result.problems)}",
    )


def _accuracy(
    detector: Detector, checkpoint: Path, data: Path, split: str, reporter: Reporter
) -> tuple[float | None, float | None]:
    """Return mAP50-95 of the weights and of the bundle, which the detector runs already; None without boxes."""
    from drivetl.evaluate import evaluate, model_of, open_model

    contract = detector.contract
    one_to_one = contract.decoding == "xyxy_one_to_one"
    reference = open_model(checkpoint, size_hw=contract.input_size_hw, one_to_one=one_to_one)
    reference = replace(reference, multi_label=contract.decoding != "xyxy_nms")
    models = (reference, model_of(detector))
    first, second = (evaluate(model, data, split=split, progress=reporter.progress) for model in models)
    return first.score.map50_95, second.score.map50_95


def _lines(result: ParityResult) -> list[str]:
    agreement, limits = result.agreement, result.tolerances
    weights_map, bundle_map = result.map50_95 or (float("nan"), float("nan"))
    letterbox = "bit for bit equal" if not result.letterbox_mismatches else "differs"
    return [
        f"{counted(result.pictures, 'picture')} of {result.split!r}, bundle on {result.provider}",
        f"letterbox    {letterbox}",
        f"self-test    {'passed' if result.self_test.passed else 'failed'}",
        f"raw scores   differ by at most {result.max_abs_diff_scores:.1e}   (allowed {_shown(limits.scores)})",
        f"raw boxes    differ by at most {result.max_abs_diff_px:.1e} px   (allowed {_shown(limits.px)} px)",
        f"detections   {result.matched:.2%} of {agreement.matched + agreement.missed} match, "
        f"{agreement.excused} excused   (required {limits.matched:.1%})",
        f"mAP50-95     weights {weights_map:.4f}, bundle {bundle_map:.4f}   (allowed difference {limits.map50_95:g})",
        f"worst        {quoted(result.worst.picture)}",
    ]


def _shown(limit: float | None) -> str:
    return "any" if limit is None else f"{limit:g}"
