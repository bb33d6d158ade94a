"""What values a graph's tensors take on the target's pictures: which pictures, and how a range is cut."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from drivetl.data import Dataset
from drivetl.data.pictures import decode_picture
from drivetl.data.records import Sample
from drivetl.progress import Progress, tracked
from drivetl.runtime import Letterbox, to_tensor

__all__ = ["METHODS", "Method", "chosen_samples", "tensor_ranges", "tensors_of"]

# min-max keeps every value seen; entropy cuts where the histogram loses least information (as TensorRT's calibrator
# does); percentile leaves out the outermost 0.001 % of the values, ONNX Runtime's default.
Method = Literal["min-max", "entropy", "percentile"]
METHODS: tuple[Method, ...] = get_args(Method)

_Array = NDArray[np.float32]


def chosen_samples(dataset: Dataset, split: str, most: int) -> list[Sample]:
    """Return at most ``most`` pictures of a split, each condition with its share.

    Raises:
        DatasetError: there is no such split, or its files cannot be used.
    """
    samples = sorted(dataset.samples(split), key=_conditions)
    wanted = np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(int))
    return [samples[index] for index in wanted]


def _conditions(sample: Sample) -> tuple[str, ...]:
    return (*(str(sample.attributes.get(name, "")) for name in ("weather", "timeofday", "scene")), sample.image.name)


def tensors_of(samples: Iterable[Sample], letterbox: Letterbox) -> Iterable[_Array]:
    """Yield the input tensors of pictures, float32 ``(1, 3, h, w)``, one in memory at a time.

    Raises:
        ImageError: a picture cannot be decoded.
    """
    return (to_tensor(letterbox(decode_picture(sample.image))[0]) for sample in samples)


def tensor_ranges(
    model: Path,
    tensors: Iterable[_Array],
    count: int,
    *,
    method: Method,
    operators: Sequence[str],
    progress: Progress,
) -> Any:
    """Run a float graph over input tensors and return ONNX Runtime's ranges of the tensors that ``operators`` touch.

    Args:
        model: the ``.onnx`` file; its one input takes the tensors.
        tensors: float32 ``(1, 3, h, w)``.
        count: how many there are, for the progress.
        method: how a range is cut.
        operators: operator types whose inputs and outputs are wanted.
        progress: told after every tensor.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    methods = {
        "min-max": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    # The calibrator prints to stdout, where the verb's result belongs.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(
            model, list(operators), augmented_model_path=augmented, calibrate_method=methods[method]
        )
        name = calibrator.infer_session.get_inputs()[0].name
        for tensor in tracked(tensors, f"calibrate {method}", count, progress):
            # One at a time: the calibrator keeps every intermediate tensor of what it is given in memory.
            calibrator.collect_data(_Once({name: tensor}))
        return calibrator.compute_data()


class _Once:
    """A reader in ONNX Runtime's sense that hands out one feed."""

    def __init__(self, feed: dict[str, _Array]) -> None:
        self._feed: dict[str, _Array] | None = feed

    def get_next(self) -> dict[str, _Array] | None:
        feed, self._feed = self._feed, None
        return feed
