"""One engine with the interface of an ``onnxruntime.InferenceSession``, so that everything above it stays the same.

Written for the Python API of TensorRT 10 and 11 (named tensors, ``execute_async_v3``); both have what is called here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub._optional import require
from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime.tensorrt.cuda import DeviceBuffers
from vlkd_hub.runtime.tensorrt.profiles import ShapeRange, check_shapes

__all__ = ["EngineSession", "load_tensorrt"]

SUPPORTED_MAJORS = (10, 11)


def load_tensorrt() -> Any:
    """Import TensorRT of a version whose calls are known here.

    Raises:
        MissingDependencyError: it is not installed.
        InvalidInputError: it is another major version than 10 or 11.
    """
    trt = require("tensorrt", "tensorrt")
    major = int(str(trt.__version__).split(".")[0])
    if major not in SUPPORTED_MAJORS:
        known = " and ".join(map(str, SUPPORTED_MAJORS))
        raise InvalidInputError(
            f"TensorRT {trt.__version__} is installed, and this is written for {known}. "
            'Run: pip install "vlkd-hub[tensorrt]"'
        )
    return trt


class EngineSession:
    """A deserialised engine, its context and its memory.

    Runs one after the other: a context holds the shapes of one run. Open a second session to run two at once.

    Args:
        engine: as :class:`~vlkd_hub.runtime.tensorrt.engine_store.EngineStore` gives it.
        graph: its name, for messages.
        device_id: which GPU.
        buffers: memory and stream; None takes the GPU's.

    Raises:
        MissingDependencyError: TensorRT or CUDA's bindings are absent, or there is no GPU.
        BundleError: TensorRT cannot read the engine (another version or another GPU wrote it).
    """

    def __init__(self, engine: bytes, graph: str, device_id: int = 0, buffers: Any = None) -> None:
        trt = load_tensorrt()
        self.graph = graph
        self._buffers = buffers or DeviceBuffers(device_id)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise BundleError(
                f"TensorRT {trt.__version__} cannot read the engine of {graph}: another version or GPU built it. "
                "Remove it from the engine folder and build it here."
            )
        self._context = self._engine.create_execution_context()
        self._lock = threading.Lock()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.output_names = [name for name in names if name not in inputs]
        self.profile = {name: self._range(name) for name in inputs}
        self._types = {name: np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))) for name in names}

    def _range(self, name: str) -> ShapeRange:
        low, usual, high = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0))
        return ShapeRange(low, usual, high)

    def get_providers(self) -> list[str]:
        """What runs this session, as onnxruntime's sessions tell it."""
        return ["TensorRT"]

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the engine once.

        Args:
            output_names: outputs in the order wanted; None means all, in the engine's order.
            feeds: every input by name.

        Raises:
            InvalidInputError: an input is absent, unknown, or outside the shapes that the engine was built for.
        """
        wanted = list(self.output_names if output_names is None else output_names)
        unknown = [name for name in wanted if name not in self.output_names]
        if unknown:
            raise InvalidInputError(f"{self.graph} has no output {unknown[0]!r}; it has {self.output_names}.")
        check_shapes(self.profile, {name: array.shape for name, array in feeds.items()}, self.graph)
        with self._lock:
            return self._run(wanted, feeds)

    def _run(self, wanted: list[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        for name, array in feeds.items():
            ready = np.ascontiguousarray(array, dtype=self._types[name])
            self._context.set_input_shape(name, ready.shape)
            self._context.set_tensor_address(name, self._buffers.upload(name, ready))
        results = {}
        for name in self.output_names:
            shape = tuple(self._context.get_tensor_shape(name))
            results[name] = self._buffers.empty(shape, self._types[name])
            self._context.set_tensor_address(name, self._buffers.reserve(name, max(1, results[name].nbytes)))
        if not self._context.execute_async_v3(int(self._buffers.stream)):
            raise BundleError(f"TensorRT could not run {self.graph}; its log says why. Build the engine again.")
        for name in wanted:
            self._buffers.download(name, results[name])
        self._buffers.wait()
        return [results[name] for name in wanted]
