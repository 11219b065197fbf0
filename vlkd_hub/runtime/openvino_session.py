"""A graph run by OpenVINO, with the methods of an onnxruntime session that a student calls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub._optional import require
from vlkd_hub.errors import BundleError, InvalidInputError, MissingDependencyError
from vlkd_hub.runtime.external_data import check_external_data
from vlkd_hub.runtime.sessions import default_threads

__all__ = ["OpenVinoSession"]


class OpenVinoSession:
    """One compiled graph.

    Any number of threads may call :meth:`run`: each run borrows a request of its own.

    Args:
        path: the ``.onnx`` file.
        threads: of one run; None means the processors of this process, 8 at most.
        precision: ``"f32"`` or ``"bf16"`` for what is not quantized; None takes bf16 where the processor has it.
        allowed_external: names of weight files beside ``path`` that it may read.

    Raises:
        BundleError: OpenVINO cannot read the file, or it names weights outside ``allowed_external``.
        InvalidInputError: ``threads`` is below 1.
        MissingDependencyError: OpenVINO is not installed, or this processor does not have ``precision``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        precision: str | None = None,
        allowed_external: set[str] | None = None,
    ) -> None:
        threads = default_threads(threads)
        openvino = require("openvino", "openvino")
        check_external_data(path, allowed_external or set())
        core = _core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise MissingDependencyError(
                "bf16 was asked for and this processor does not have it (AVX-512 BF16 or AMX). Ask for openvino-fp32."
            )
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        if precision is not None:
            options["INFERENCE_PRECISION_HINT"] = precision
        try:
            self._compiled = core.compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO {openvino.__version__} cannot open {path}: {_one_line(error)}") from error
        self.precision: str = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if precision is not None and self.precision != precision:
            raise MissingDependencyError(f"{precision} was asked for and OpenVINO took {self.precision} for {path}.")
        # A port may carry several names: OpenVINO folds a cast that follows an input into it.
        self._outputs = [(port, sorted(port.get_names())) for port in self._compiled.outputs]
        self._inputs = [(sorted(p.get_names()), np.dtype(p.element_type.to_dtype())) for p in self._compiled.inputs]
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def run(self, output_names: list[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs in the order of ``output_names``, or of the graph if None; arrays that are the caller's own.

        Raises:
            InvalidInputError: an input or output is unknown or missing, or a type or shape does not fit the graph.
        """
        self._check_inputs(feeds)
        wanted = [port for port, _ in self._outputs] if output_names is None else [self._port(n) for n in output_names]
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            request.infer(dict(feeds), share_inputs=True)
            found = [np.array(request.get_tensor(port).data) for port in wanted]
        except RuntimeError as error:
            raise InvalidInputError(f"OpenVINO cannot run the graph on these inputs: {_one_line(error)}") from error
        self._idle.put(request)
        return found

    def _port(self, name: str) -> Any:
        found = next((port for port, names in self._outputs if name in names), None)
        if found is None:
            known = [names for _, names in self._outputs]
            raise InvalidInputError(f"The graph has no output {name!r}; it has {known}.")
        return found

    def _check_inputs(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """OpenVINO itself would convert another type, and take an input that is missing from the run before."""
        fits = len(feeds) == len(self._inputs) and all(
            any(name in feeds and feeds[name].dtype == kind for name in names) for names, kind in self._inputs
        )
        if not fits:
            takes = ", ".join(f"{' or '.join(names)} ({kind})" for names, kind in sorted(self._inputs))
            given = ", ".join(f"{name} ({array.dtype})" for name, array in sorted(feeds.items()))
            raise InvalidInputError(f"The graph takes {takes}, got {given or 'nothing'}.")

    def get_providers(self) -> list[str]:
        """What runs the graph, in the place where an onnxruntime session names its providers."""
        return [f"OpenVINO ({self.precision})"]

    def placement(self) -> dict[str, int]:
        """Layers of the compiled graph by the type they run in, for example ``{"bf16": 30, "i8": 20}``."""
        counts: dict[str, int] = {}
        for node in self._compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            kind = str(info["runtimePrecision"].value) if "runtimePrecision" in info else "?"
            counts[kind] = counts.get(kind, 0) + 1
        return counts


@cache
def _core() -> Any:
    """The one ``openvino.Core`` of the process, made at the first call and never given back.

    On processors with AMX the CPU plugin swaps the calling thread's stack for signals, and swaps it back when its core
    goes. Two cores that go in the order they came leave the thread with a stack that is no longer mapped, and the next
    signal, SIGTERM or SIGCHLD, ends the process with a segmentation fault (seen with OpenVINO 2026.4.1).
    """
    return require("openvino", "openvino").Core()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
