"""Two bundles on one picture in one run, alternating blocks: what int8, another size or another head gains in time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.data.pictures import decode_picture
from drivetl.deploy.golden import SYNTHETIC, synthetic_frame
from drivetl.deploy.gpu_state import GpuWatch
from drivetl.deploy.machine import Load, describe_machine
from drivetl.deploy.place import Limits, Place, detector_at
from drivetl.deploy.sampling import STAGES, back_to_back_ms
from drivetl.deploy.versus import BLOCKS, Versus, in_turns
from drivetl.progress import Progress, silent
from drivetl.runtime import Detector, open_bundle

__all__ = ["BesideResult", "bench_beside"]

_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class BesideResult:
    """What a frame takes with each of two bundles.

    Attributes:
        stages: for each of `drivetl.deploy.sampling.STAGES`; ``ours`` is the first bundle, ``theirs`` the second.
        bundles: folders of the first and the second.
        precision: of each.
        detections: how many boxes each finds.
        provider: what both ran on.
        picture: name of the frame.
        frames: timed for each.
        threads: of one operator of ONNX Runtime; 0: its own choice.
        machine: see `drivetl.deploy.machine.describe_machine`.
        load: what else the machine did meanwhile, see `drivetl.deploy.machine.Load`.
    """

    stages: dict[str, Versus]
    bundles: tuple[str, str]
    precision: tuple[str, str]
    detections: tuple[int, int]
    provider: str
    picture: str
    frames: int
    threads: int
    machine: dict[str, Any]
    load: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return asdict(self)


def bench_beside(
    bundle: Path,
    other: Path,
    *,
    place: Place | None = None,
    image: Path | None = None,
    iterations: int = 300,
    progress: Progress = silent,
) -> BesideResult:
    """Time two bundles in alternating blocks.

    Args:
        bundle: the first folder.
        other: the second.
        place: where both run; None is the CPU.
        image: a picture file; None takes a synthetic 1280x720 frame.
        iterations: frames of each, rounded up to ten blocks.
        progress: told before every pair of blocks, never while the clock runs.

    Raises:
        BundleError: a bundle cannot be used.
        ImageError: the picture cannot be decoded.
        ProviderUnavailable: the provider cannot run here.
    """
    image_bgr = synthetic_frame() if image is None else decode_picture(image)
    place = place or Place()
    gpu = GpuWatch(place.provider)
    pair = [detector_at(open_bundle(path), place, Limits.of(place)) for path in (bundle, other)]
    block = -(-iterations // BLOCKS)

    def timed(detector: Detector) -> NDArray[np.float64]:
        p50_ms: NDArray[np.float64] = np.median(back_to_back_ms(detector, image_bgr, block, _WARM_UP, silent), axis=0)
        return p50_ms

    load = Load()
    stages = in_turns((lambda: timed(pair[0]), lambda: timed(pair[1])), STAGES, progress)
    found_load = load.document()
    machine = describe_machine(gpu.document())
    return BesideResult(
        stages=stages,
        bundles=(str(bundle), str(other)),
        precision=(pair[0].contract.precision, pair[1].contract.precision),
        detections=(len(pair[0](image_bgr)), len(pair[1](image_bgr))),
        provider=pair[0].provider,
        picture=SYNTHETIC if image is None else image.name,
        frames=BLOCKS * block,
        threads=pair[0].session.intra_op_threads,
        machine=machine,
        load=found_load,
    )
