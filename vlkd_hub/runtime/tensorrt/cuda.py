"""The few calls of CUDA's runtime that running an engine takes, through NVIDIA's own bindings (``cuda-bindings``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub._optional import require
from vlkd_hub.errors import MissingDependencyError

__all__ = ["DeviceBuffers", "compute_capability"]


def _runtime() -> Any:
    return require("cuda.bindings.runtime", "tensorrt")


def _call(function: Any, *arguments: Any) -> Any:
    """Call and return what comes after the error code.

    Raises:
        MissingDependencyError: CUDA says no; the message holds its words.
    """
    error, *results = function(*arguments)
    if int(error) != 0:
        words = _runtime().cudaGetErrorString(error)[1]
        text = words.decode() if isinstance(words, bytes) else str(words)
        raise MissingDependencyError(
            f"CUDA failed in {function.__name__}: {text}. Check the driver and the free memory with nvidia-smi."
        )
    return results[0] if results else None


def compute_capability(device_id: int = 0) -> str:
    """For example ``"9.0"``.

    Raises:
        MissingDependencyError: there is no GPU or no driver.
    """
    cudart = _runtime()
    kinds = cudart.cudaDeviceAttr
    numbers = [
        _call(cudart.cudaDeviceGetAttribute, kind, device_id)
        for kind in (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)
    ]
    return ".".join(str(int(number)) for number in numbers)


class DeviceBuffers:
    """Memory on the GPU by name, which grows when it must and is kept from run to run; and one stream."""

    def __init__(self, device_id: int = 0) -> None:
        self._cudart = _runtime()
        _call(self._cudart.cudaSetDevice, device_id)
        self.stream = _call(self._cudart.cudaStreamCreate)
        self._held: dict[str, tuple[int, int]] = {}

    def reserve(self, name: str, nbytes: int) -> int:
        """Address of at least ``nbytes`` bytes for ``name``."""
        address, have = self._held.get(name, (0, 0))
        if have < nbytes:
            if have:
                _call(self._cudart.cudaFree, address)
                del self._held[name]
            address = int(_call(self._cudart.cudaMalloc, nbytes))
            self._held[name] = (address, nbytes)
        return address

    def upload(self, name: str, array: NDArray[Any]) -> int:
        """Copy ``array`` to the GPU and return its address there."""
        address = self.reserve(name, max(1, array.nbytes))
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        _call(self._cudart.cudaMemcpyAsync, address, array.ctypes.data, array.nbytes, kind, self.stream)
        return address

    def download(self, name: str, array: NDArray[Any]) -> None:
        """Copy from the GPU into ``array``; it is there after :meth:`wait`."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address = self._held[name][0]
        _call(self._cudart.cudaMemcpyAsync, array.ctypes.data, address, array.nbytes, kind, self.stream)

    def wait(self) -> None:
        """Until everything that was asked for is done."""
        _call(self._cudart.cudaStreamSynchronize, self.stream)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Memory of the host for a result."""
        return np.empty(shape, dtype=dtype)
