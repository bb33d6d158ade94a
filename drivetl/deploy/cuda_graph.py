"""Replay a bundle as one CUDA graph: the same output as node by node, and how long each takes.

    python -m drivetl.deploy.cuda_graph BUNDLE

It needs what CUDA needs: every node on the device, fixed shapes, and buffers that stay where they are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.deploy.golden import synthetic_frame
from drivetl.errors import BundleError, DrivetlError
from drivetl.runtime import Bundle, Session, open_bundle, open_session
from drivetl.runtime.bundle import MODEL_FILE

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
    if opened.contract.dynamic:
        raise BundleError(f"a CUDA graph has fixed shapes and {str(bundle)!r} has open ones; export without --dynamic")
    letterboxed, _ = opened.contract.letterbox(synthetic_frame())
    single = opened.contract.to_input(letterboxed)
    tensor = np.repeat(single, opened.contract.batch, axis=0)
    plain = _run(opened, tensor, {}, runs)
    replayed = _run(opened, tensor, {"enable_cuda_graph": "1"}, runs)
    return {
        "max_abs_diff": float(np.abs(plain[0] - replayed[0]).max()),
        "p50_ms": {"nodes": plain[1], "graph": replayed[1]},
        "nodes_per_provider": plain[2].nodes_per_provider,
    }


def _run(
    bundle: Bundle, tensor: NDArray[Any], options: dict[str, str], runs: int
) -> tuple[NDArray[np.float32], float, Session]:
    """Return the output, the p50 of a run in milliseconds, and the session."""
    contract = bundle.contract
    session = open_session(bundle.model, "cuda", where=str(bundle.path / MODEL_FILE), provider_options=options)
    binding, output = _bound(session, contract.input_name, contract.output_name, tensor, contract.output_shape)
    run: Callable[[Any], Any] = session.ort_session.run_with_iobinding
    taken_ns = []
    for turn in range(_WARM_UP + runs):
        begun_ns = perf_counter_ns()
        run(binding)
        if turn >= _WARM_UP:
            taken_ns.append(perf_counter_ns() - begun_ns)
    return output.numpy(), round(statistics.median(taken_ns) / 1e6, 4), session


def _bound(
    session: Session, input_name: str, output_name: str, tensor: NDArray[Any], output_shape: Sequence[int]
) -> tuple[Any, Any]:
    import onnxruntime as ort

    there = ort.OrtValue.ortvalue_from_numpy(tensor, "cuda", 0)
    output = ort.OrtValue.ortvalue_from_shape_and_type(list(output_shape), np.float32, "cuda", 0)
    binding = session.ort_session.io_binding()
    binding.bind_ortvalue_input(input_name, there)
    binding.bind_ortvalue_output(output_name, output)
    return binding, output


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
