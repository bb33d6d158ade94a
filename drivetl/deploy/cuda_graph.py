"""Replay a bundle as one CUDA graph: the same output as node by node, and how long each takes.

    python -m drivetl.deploy.cuda_graph BUNDLE

It needs what CUDA needs: every node on the device, fixed shapes, and buffers that stay where they are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.deploy.golden import synthetic_frame
from drivetl.errors import BundleError, DrivetlError, quoted
from drivetl.runtime import Bundle, open_bundle
from drivetl.runtime.replay import Replay

__all__ = ["cuda_graph", "main"]

# The first run allocates, the second captures, from the third on the graph is replayed.
_WARM_UP = 5
_RUNS = 200


def cuda_graph(bundle: Path, *, runs: int = _RUNS) -> dict[str, Any]:
    """Run a bundle on CUDA node by node and as a graph, with its input and output bound on the device.

    Two frames are compared, one that stands in the buffer while the graph is recorded and one that is written after
    it: a graph that computes nothing any more still has the first one's output to show.

    Returns:
        ``max_abs_diff`` of the two ways over both frames (0: the very same kernels ran), ``p50_ms`` of ``nodes`` and
        of ``graph``, and ``nodes_per_provider``.

    Raises:
        BundleError: the bundle cannot be used, or gives the same output whatever it sees.
        ProviderUnavailable: CUDA cannot run here, or not every node of the bundle runs on it.
    """
    opened = open_bundle(bundle)
    recorded = _tensor(opened, synthetic_frame())
    # Turned round, so that every part of the output has something else to say.
    later = _tensor(opened, np.ascontiguousarray(synthetic_frame(seed=1)[::-1]))
    replayed, graph_ms, _ = _run(opened, (recorded, later), runs, cuda_graph=True)
    outputs, nodes_ms, nodes_per_provider = _run(opened, (recorded, later), runs, cuda_graph=False)
    if np.array_equal(*outputs):
        raise BundleError(
            f"{quoted(bundle)} gives the same output for two different frames, which says nothing of a replay; "
            "export it again"
        )
    return {
        "max_abs_diff": float(np.abs(np.subtract(outputs, replayed)).max()),
        "p50_ms": {"nodes": nodes_ms, "graph": graph_ms},
        "nodes_per_provider": nodes_per_provider,
    }


def _tensor(bundle: Bundle, image_bgr: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the input for a frame, repeated to fill the batch."""
    letterboxed, _ = bundle.contract.letterbox(image_bgr)
    return np.repeat(bundle.contract.to_input(letterboxed), bundle.contract.batch, axis=0)


_Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


def _run(
    bundle: Bundle, tensors: tuple[NDArray[Any], NDArray[Any]], runs: int, *, cuda_graph: bool
) -> tuple[_Outputs, float, dict[str, int]]:
    """Return the outputs, the p50 of a run in milliseconds, and the nodes of each provider.

    The first tensor is run and timed; the second is written behind that, and run once.
    """
    session = bundle.session("cuda", cuda_graph=cuda_graph)
    replay = Replay(session, bundle.contract)
    replay.write(tensors[0])
    taken_ns = []
    for turn in range(_WARM_UP + runs):
        begun_ns = perf_counter_ns()
        replay.run()
        if turn >= _WARM_UP:
            taken_ns.append(perf_counter_ns() - begun_ns)
    first = replay.read().copy()
    second = replay(tensors[1]).copy()
    return (first, second), round(statistics.median(taken_ns) / 1e6, 4), session.nodes_per_provider


def main(words: Sequence[str] | None = None) -> int:
    """Print the result as JSON; exit status 1 where CUDA cannot run, 2 where the bundle cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m drivetl.deploy.cuda_graph")
    parser.add_argument("bundle", type=Path)
    try:
        document = cuda_graph(parser.parse_args(words).bundle)
    except DrivetlError as error:
        print(json.dumps({"error": {"message": str(error), "exit_status": error.exit_status}}))
        return error.exit_status
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
