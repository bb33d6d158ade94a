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
from drivetl.errors import DrivetlError
from drivetl.runtime import Bundle, open_bundle
from drivetl.runtime.replay import Replay

__all__ = ["cuda_graph", "main"]

# The first run allocates, the second captures, from the third on the graph is replayed.
_WARM_UP = 5
_RUNS = 200


def cuda_graph(bundle: Path, *, runs: int = _RUNS) -> dict[str, Any]:
    """Run a bundle on CUDA node by node and as a graph, with its input and output bound on the device.

    Returns:
        ``max_abs_diff`` of the two outputs (0: the very same kernels ran), ``p50_ms`` of ``nodes`` and of ``graph``,
        and ``nodes_per_provider``.

    Raises:
        BundleError: the bundle cannot be used, or has open dimensions.
        ProviderUnavailable: CUDA cannot run here, or not every node runs on it.
    """
    opened = open_bundle(bundle)
    letterboxed, _ = opened.contract.letterbox(synthetic_frame())
    single = opened.contract.to_input(letterboxed)
    tensor = np.repeat(single, opened.contract.batch, axis=0)
    replayed, graph_ms, _ = _run(opened, tensor, runs, cuda_graph=True)
    output, nodes_ms, nodes_per_provider = _run(opened, tensor, runs, cuda_graph=False)
    return {
        "max_abs_diff": float(np.abs(output - replayed).max()),
        "p50_ms": {"nodes": nodes_ms, "graph": graph_ms},
        "nodes_per_provider": nodes_per_provider,
    }


def _run(
    bundle: Bundle, tensor: NDArray[Any], runs: int, *, cuda_graph: bool
) -> tuple[NDArray[np.float32], float, dict[str, int]]:
    """Return the output, the p50 of a run in milliseconds, and the nodes of each provider."""
    session = bundle.session("cuda", cuda_graph=cuda_graph)
    replay = Replay(session, bundle.contract)
    replay.write(tensor)
    taken_ns = []
    for turn in range(_WARM_UP + runs):
        begun_ns = perf_counter_ns()
        replay.run()
        if turn >= _WARM_UP:
            taken_ns.append(perf_counter_ns() - begun_ns)
    return replay.read(), round(statistics.median(taken_ns) / 1e6, 4), session.nodes_per_provider


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
