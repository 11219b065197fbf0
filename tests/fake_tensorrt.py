"""A stand-in for the part of ``tensorrt`` and ``cuda.bindings.runtime`` that is called here. It is not TensorRT.

Its "engines" are the ONNX files themselves, run by onnxruntime on the CPU; its "GPU memory" is memory of the process.
What it is for: the order of calls and what TensorRT demands of it (strong typing on 10, a profile for every input,
shapes inside the profile, an address for every tensor before a run). What it cannot tell: whether TensorRT reads a
graph, how fast an engine is, or what half precision costs on a GPU.
"""

from __future__ import annotations

import ctypes
import json
import types
from typing import Any

import numpy as np
import onnx
import onnxruntime


class FakeCuda:
    """``cuda.bindings.runtime``: every call gives an error code first."""

    cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaDeviceAttr = types.SimpleNamespace(
        cudaDevAttrComputeCapabilityMajor="major", cudaDevAttrComputeCapabilityMinor="minor"
    )

    def __init__(self, fail: str = "") -> None:
        self.fail = fail
        self.memory: dict[int, Any] = {}
        self.freed: list[int] = []

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:
        return 0, b"out of memory"

    def cudaSetDevice(self, device: int) -> tuple[int]:
        return (100 if self.fail == "device" else 0,)

    def cudaStreamCreate(self) -> tuple[int, int]:
        return 0, 7

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaDeviceGetAttribute(self, kind: str, device: int) -> tuple[int, int]:
        return 0, {"major": 9, "minor": 0}[kind]

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        if self.fail == "malloc":
            return 2, 0
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[int]:
        del self.memory[address]
        self.freed.append(address)
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        device = target if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else source
        assert size <= len(self.memory[device]), "a copy past the end of the memory reserved"
        ctypes.memmove(target, source, size)
        return (0,)


class FakeTensorrt:
    """``tensorrt``, in the version wanted.

    Args:
        version: ``"10.15.1"`` or ``"11.4.0"``; the flags of a precision exist on neither.
        cuda: whose memory the addresses lie in.
    """

    TensorIOMode = types.SimpleNamespace(INPUT="input", OUTPUT="output")
    MemoryPoolType = types.SimpleNamespace(WORKSPACE="workspace")

    def __init__(self, version: str = "10.15.1", cuda: FakeCuda | None = None) -> None:
        self.__version__ = version
        self.cuda = cuda or FakeCuda()
        self.calls: list[str] = []
        self.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
        if version.startswith("10."):
            self.NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1)

    def nptype(self, dtype: Any) -> Any:
        return dtype

    def Builder(self, logger: Any) -> Any:
        return FakeBuilder(self)

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        return FakeParser(self, network)

    def Runtime(self, logger: Any) -> Any:
        return FakeRuntime(self)


class FakeBuilder:
    def __init__(self, trt: FakeTensorrt) -> None:
        self.trt = trt

    def create_network(self, flags: int) -> Any:
        strong = not self.trt.__version__.startswith("10.") or flags == 2
        assert strong, "a weakly typed network: its graph's types would not be what runs"
        self.trt.calls.append("network")
        return types.SimpleNamespace(path=None)

    def create_builder_config(self) -> Any:
        return FakeConfig(self.trt)

    def create_optimization_profile(self) -> Any:
        return FakeProfile()

    def build_serialized_network(self, network: Any, config: FakeConfig) -> bytes | None:
        assert network.path is not None, "the network was not parsed"
        inputs = {item.name for item in onnx.load(network.path, load_external_data=False).graph.input}
        assert config.profiles and all(set(shapes) == inputs for shapes in config.profiles), "an input has no profile"
        assert config.timing is not None, "no timing cache"
        self.trt.calls.append("build")
        return json.dumps({"path": network.path, "profile": config.profiles[0]}).encode()


class FakeProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> None:
        self.shapes[name] = [list(low), list(usual), list(high)]


class FakeConfig:
    def __init__(self, trt: FakeTensorrt) -> None:
        self.trt = trt
        self.profiles: list[dict[str, Any]] = []
        self.timing: bytes | None = None

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        assert pool == "workspace" and size > 0

    def add_optimization_profile(self, profile: FakeProfile) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        if cache == b"of another GPU":
            return False
        self.timing = cache
        return True

    def get_timing_cache(self) -> Any:
        return types.SimpleNamespace(serialize=lambda: (self.timing or b"") + b"+")


class FakeParser:
    def __init__(self, trt: FakeTensorrt, network: Any) -> None:
        self.trt = trt
        self.network = network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        self.trt.calls.append("parse")
        if any(node.op_type == "If" for node in onnx.load(path, load_external_data=False).graph.node):
            self.num_errors = 1
            return False
        self.network.path = path
        return True

    def get_error(self, index: int) -> str:
        return "In node 0 (importIf): UNSUPPORTED_NODE"


class FakeRuntime:
    def __init__(self, trt: FakeTensorrt) -> None:
        self.trt = trt

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        return None if data == b"of another version" else FakeEngine(self.trt, json.loads(data))


class FakeEngine:
    def __init__(self, trt: FakeTensorrt, data: dict[str, Any]) -> None:
        self.trt = trt
        self.profile = data["profile"]
        self.session = onnxruntime.InferenceSession(data["path"], providers=["CPUExecutionProvider"])
        self.inputs = {item.name: item for item in self.session.get_inputs()}
        self.outputs = {item.name: item for item in self.session.get_outputs()}
        self.names = [*self.inputs, *self.outputs]

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def get_tensor_dtype(self, name: str) -> Any:
        kind = (self.inputs | self.outputs)[name].type
        return {"tensor(float)": np.float32, "tensor(int64)": np.int64}[kind]

    def get_tensor_profile_shape(self, name: str, index: int) -> Any:
        return self.profile[name]

    def create_execution_context(self) -> Any:
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.results: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: Any) -> bool:
        low, _, high = self.engine.profile[name]
        assert all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)), "outside the profile"
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.engine.trt.cuda.memory, "not an address of the GPU"
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Known once every input has its shape; here by running, on the bytes that were uploaded."""
        assert set(self.shapes) == set(self.engine.inputs), "a shape was asked for before every input had one"
        if not self.results:
            feeds = {}
            for item in self.engine.inputs:
                dtype, shape = self.engine.get_tensor_dtype(item), self.shapes[item]
                block = self.engine.trt.cuda.memory[self.addresses[item]]
                feeds[item] = np.frombuffer(block, dtype, int(np.prod(shape))).reshape(shape).copy()
            self.results = dict(zip(self.engine.outputs, self.engine.session.run(None, feeds), strict=True))
        return tuple(self.results[name].shape)

    def execute_async_v3(self, stream: int) -> bool:
        assert isinstance(stream, int) and set(self.addresses) == set(self.engine.names), "a tensor has no address"
        for name, array in self.results.items():
            block = self.engine.trt.cuda.memory[self.addresses[name]]
            ready = np.ascontiguousarray(array)
            assert ready.nbytes <= len(block)
            ctypes.memmove(block, ready.ctypes.data, ready.nbytes)
        self.results = {}
        return True
