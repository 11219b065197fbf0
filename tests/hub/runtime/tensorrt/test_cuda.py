"""CUDA's calls: memory that is kept and grows, and errors in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vlkd_hub.errors import MissingDependencyError
from vlkd_hub.runtime.tensorrt.cuda import DeviceBuffers, compute_capability


def test_capability(fake_gpu: Any) -> None:
    fake_gpu()
    assert compute_capability() == "9.0"


def test_there_and_back(fake_gpu: Any) -> None:
    fake_gpu()
    buffers = DeviceBuffers()
    sent = np.arange(6, dtype=np.float32)
    buffers.upload("x", sent)
    got = buffers.empty((6,), np.float32)
    buffers.download("x", got)
    buffers.wait()
    np.testing.assert_array_equal(got, sent)


def test_memory_is_kept_and_grows(fake_gpu: Any) -> None:
    """A smaller run takes the same memory; a larger one frees it and takes more."""
    cuda = fake_gpu().cuda
    buffers = DeviceBuffers()
    first = buffers.reserve("x", 100)
    assert buffers.reserve("x", 50) == first and cuda.freed == []
    assert buffers.reserve("y", 10) != first
    buffers.reserve("x", 200)
    assert cuda.freed == [first]


@pytest.mark.parametrize("fail", ["device", "malloc"])
def test_an_error_is_told_in_cudas_words(fake_gpu: Any, fail: str) -> None:
    fake_gpu(fail=fail)
    with pytest.raises(MissingDependencyError, match="out of memory"):
        DeviceBuffers().reserve("x", 1)


def test_the_real_bindings_have_what_is_called() -> None:
    """Where NVIDIA's bindings are installed, the fake is held against them."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    called = (
        "Free Malloc MemcpyAsync StreamCreate StreamSynchronize SetDevice DeviceGetAttribute GetErrorString".split()
    )
    assert [name for name in called if not hasattr(runtime, f"cuda{name}")] == []
    assert runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor
    assert runtime.cudaMemcpyKind.cudaMemcpyHostToDevice == 1
    assert runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost == 2
