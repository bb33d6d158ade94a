"""Ours beside Ultralytics' own ONNX path: same picture, one run, alternating blocks; same graph, or its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.data.pictures import decode_picture
from drivetl.deploy.golden import SYNTHETIC, synthetic_frame
from drivetl.deploy.machine import Load, describe_machine
from drivetl.errors import ConfigError, quoted
from drivetl.progress import Progress, silent
from drivetl.runtime import Bundle, Contract, Detector, open_bundle, open_session
from drivetl.runtime.bundle import MODEL_FILE
from drivetl.runtime.session import read_model

if TYPE_CHECKING:
    from drivetl.yolo.onnx_predict import UltralyticsOnnx

__all__ = ["BLOCKS", "MEASURES", "Stages", "Versus", "VersusResult", "compare_paths", "in_turns", "versus_ultralytics"]

MEASURES = ("outside_wall", "outside_cpu", "end_to_end")
BLOCKS = 10
_WARM_UP = 5
_NS_PER_MS = 1e6
# Preprocess, infer, postprocess; each takes what the ones before it gave.
Stages = tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any, Any], Any]]


@dataclass(frozen=True, slots=True)
class Versus:
    """One measure of both paths.

    Attributes:
        ours_ms: milliseconds a frame; the median over the blocks of each block's p50 (CPU time: of its mean, because
            that clock is coarse on some systems).
        theirs_ms: likewise.
        ratio: ours by theirs, the median over pairs of neighbouring blocks.
        lowest, highest: of those ratios.
    """

    ours_ms: float
    theirs_ms: float
    ratio: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ours_ms: NDArray[np.float64], theirs_ms: NDArray[np.float64]) -> Versus:
        """Return the comparison of the figures of neighbouring blocks."""
        ratios = ours_ms / theirs_ms
        figures = (median(ours_ms), median(theirs_ms), median(ratios), ratios.min(), ratios.max())
        return cls(*(round(float(figure), 4) for figure in figures))


@dataclass(frozen=True, slots=True)
class VersusResult:
    """What both paths took.

    Attributes:
        measures: for each of `MEASURES`. ``outside`` is everything except inference; its CPU time is that of every
            thread of the process, those of ONNX Runtime that still wait actively after a run included, on both sides.
        detections: how many boxes we and they find.
        theirs: the graph that Ultralytics ran: ``the bundle's graph``, or the name of a file.
        picture: name of the frame.
        picture_size_hw: its size in pixels.
        input_size_hw: of the model, in pixels.
        frames: timed for each path.
        threads: of one operator of ONNX Runtime (0: its own choice), of OpenCV and of torch.
        machine: see `drivetl.deploy.machine.describe_machine`.
        load: what else the machine did meanwhile, see `drivetl.deploy.machine.Load`.
    """

    measures: dict[str, Versus]
    detections: tuple[int, int]
    theirs: str
    picture: str
    picture_size_hw: tuple[int, int]
    input_size_hw: tuple[int, int]
    frames: int
    threads: dict[str, int]
    machine: dict[str, Any]
    load: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return asdict(self)


def versus_ultralytics(
    bundle: Path,
    *,
    exported: Path | None = None,
    image: Path | None = None,
    threads: int = 0,
    iterations: int = 300,
    progress: Progress = silent,
) -> VersusResult:
    """Time a bundle through `Detector` and through Ultralytics' predictor, on the CPU.

    Ultralytics' part is what its predictor does to one picture that is already in memory, from letterbox to
    ``Results``. Its loop over sources, its log lines and its prefetching are left out, which is in its favour.

    Args:
        bundle: the folder.
        exported: the ``.onnx`` file that ``yolo export`` made of the same weights, for Ultralytics to run; None lets it
            run the bundle's graph, in the same session, so that only the two paths around it differ.
        image: a picture file; None takes a synthetic 1280x720 frame.
        threads: of one operator, and of torch; 0 leaves the choice to each.
        iterations: frames of each path, rounded up to ten blocks.
        progress: told before every pair of blocks, never while the clock runs.

    Raises:
        BundleError: the bundle, or ``exported``, cannot be used.
        ConfigError: its input is not the tensor that Ultralytics feeds, or ``exported`` has other shapes.
        ImageError: the picture cannot be decoded.
        MissingExtraError: Ultralytics is not installed.
    """
    from drivetl.yolo.onnx_predict import UltralyticsOnnx

    detector = Detector(_comparable(bundle), threads=threads)
    image_bgr = synthetic_frame() if image is None else decode_picture(image)
    limits = detector.contract.thresholds
    other = UltralyticsOnnx(
        exported or bundle / MODEL_FILE,
        detector.session.ort_session if exported is None else _own_session(exported, detector.contract, threads),
        size_hw=detector.contract.input_size_hw,
        limits=(detector.confidence, limits.iou, limits.max_detections),
        threads=threads or None,
    )
    ours, theirs = _stages(detector, other, image_bgr)
    block = -(-iterations // BLOCKS)
    intra_op = detector.session.intra_op_threads
    threads_of = {"intra_op": intra_op, "opencv": cv2.getNumThreads(), "torch": other.threads}
    load = Load()
    measures = compare_paths(ours, theirs, block=block, progress=progress)
    found_load = load.document()
    return VersusResult(
        measures=measures,
        detections=(_once(ours), _once(theirs)),
        theirs="the bundle's graph" if exported is None else exported.name,
        picture=SYNTHETIC if image is None else image.name,
        picture_size_hw=(image_bgr.shape[0], image_bgr.shape[1]),
        input_size_hw=detector.contract.input_size_hw,
        frames=BLOCKS * block,
        threads=threads_of,
        machine=describe_machine(),
        load=found_load,
    )


def _comparable(bundle: Path) -> Bundle:
    """Open a bundle that takes the tensor which Ultralytics feeds, and gives what it decodes."""
    opened = open_bundle(bundle)
    if opened.contract.input_dtype != "float32":
        raise ConfigError(
            f"{quoted(bundle)} takes {opened.contract.input_dtype} pictures, and Ultralytics feeds float32 tensors; "
            "export the weights again without --in-graph-preprocessing to compare"
        )
    if opened.contract.decoding != "cxcywh_scores" or opened.contract.batch > 1:
        raise ConfigError(
            f"{quoted(bundle)} decodes in the graph or takes {opened.contract.batch} pictures a run; export the "
            "weights again without --head, --in-graph-nms and --batch to compare"
        )
    return opened


def _own_session(exported: Path, contract: Contract, threads: int) -> Any:
    """Open what Ultralytics exported like a bundle's graph, so that neither side has better settings."""
    session = open_session(read_model(exported), threads=threads, where=str(exported)).ort_session
    shapes = [tuple(value.shape) for value in (*session.get_inputs(), *session.get_outputs())]
    expected = [(1, 3, *contract.input_size_hw), tuple(contract.output_shape)]
    if shapes != expected:
        raise ConfigError(
            f"{quoted(exported)} has the shapes {shapes} and the bundle's graph {expected}: no figures of the same "
            "model; export the weights of the bundle with `yolo export format=onnx` at the same imgsz"
        )
    return session


def _stages(detector: Detector, other: UltralyticsOnnx, image_bgr: NDArray[np.uint8]) -> tuple[Stages, Stages]:
    ours: Stages = (
        lambda: detector.preprocess(image_bgr),
        lambda made: detector.infer(made[0]),
        lambda raw, made: len(detector.postprocess(raw, made[1])),
    )
    theirs: Stages = (
        lambda: other.preprocess(image_bgr),
        other.infer,
        lambda raw, tensor: other.postprocess(raw, tensor, image_bgr),
    )
    return ours, theirs


def compare_paths(ours: Stages, theirs: Stages, *, block: int, progress: Progress = silent) -> dict[str, Versus]:
    """Time two paths in alternating blocks of ``block`` frames; which comes first changes from pair to pair."""
    return in_turns((lambda: _block_ms(ours, block), lambda: _block_ms(theirs, block)), MEASURES, progress)


def in_turns(
    blocks: tuple[Callable[[], NDArray[np.float64]], Callable[[], NDArray[np.float64]]],
    names: Sequence[str],
    progress: Progress = silent,
) -> dict[str, Versus]:
    """Time blocks of two sides in turns, so that a machine that warms up or is disturbed slows both.

    Args:
        blocks: for each side, what times one block and returns its figures in milliseconds, one for each of ``names``.
        names: what the figures are.
        progress: told before every pair of blocks, never while the clock runs.
    """
    rows: tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]] = ([], [])
    for index in range(BLOCKS):
        progress("in turns", index, BLOCKS)
        # Which comes first changes from pair to pair.
        for which in (0, 1) if index % 2 else (1, 0):
            rows[which].append(blocks[which]())
    progress("in turns", BLOCKS, BLOCKS)
    first, second = np.array(rows[0]), np.array(rows[1])
    return {name: Versus.of(first[:, column], second[:, column]) for column, name in enumerate(names)}


def _block_ms(path: Stages, frames: int) -> NDArray[np.float64]:
    """Return milliseconds for each of `MEASURES`."""
    prepare, infer, finish = path
    for _ in range(_WARM_UP):
        _once(path)
    rows_ns = np.zeros((frames, len(MEASURES)))
    for index in range(frames):
        cpu_ns, start_ns = process_time_ns(), perf_counter_ns()
        made = prepare()
        prepared_ns, cpu_prepared_ns = perf_counter_ns(), process_time_ns()
        raw = infer(made)
        cpu_inferred_ns, inferred_ns = process_time_ns(), perf_counter_ns()
        finish(raw, made)
        end_ns, cpu_end_ns = perf_counter_ns(), process_time_ns()
        outside_ns = prepared_ns - start_ns + end_ns - inferred_ns
        rows_ns[index] = outside_ns, cpu_prepared_ns - cpu_ns + cpu_end_ns - cpu_inferred_ns, end_ns - start_ns
    wall_ns, _, whole_ns = np.median(rows_ns, axis=0)
    return np.array([wall_ns, rows_ns[:, 1].mean(), whole_ns]) / _NS_PER_MS


def _once(path: Stages) -> int:
    prepare, infer, finish = path
    made = prepare()
    return int(finish(infer(made), made))
