"""A stand-in for Triton that runs a repository on the CPU. It is not Triton.

It runs each model as its config says: ONNX graphs with onnxruntime, ``model.py`` with a stand-in for
``triton_python_backend_utils``, ensembles step by step; and it refuses what Triton refuses: names, types and shapes
that the config does not have, batches that are too large, tensors without elements. It has no queue, no batching of
requests, no instances.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

TYPES = {"TYPE_FP32": np.float32, "TYPE_INT64": np.int64, "TYPE_INT32": np.int32, "TYPE_STRING": object}


class TritonError(Exception):
    def message(self) -> str:
        return str(self)


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self._name = name
        self._array = np.asarray(array)

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


class InferenceResponse:
    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        self.tensors = {tensor.name(): tensor for tensor in output_tensors}
        self._error = error

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> Any:
        return self._error


class Request:
    def __init__(self, tensors: dict[str, Any]) -> None:
        self.tensors = {name: Tensor(name, array) for name, array in tensors.items()}


class FakeTriton:
    """A server over one repository.

    Args:
        repository: the folder.
        configs: name -> config, as the writer returned them.
    """

    def __init__(self, repository: Path, configs: dict[str, Any]) -> None:
        self.repository = repository
        self.configs = configs
        self.calls: list[str] = []
        self.loaded: dict[str, Any] = {}

    def backend_utils(self) -> types.ModuleType:
        """``triton_python_backend_utils`` with what the models call."""
        module = types.ModuleType("triton_python_backend_utils")
        server = self

        class InferenceRequest:
            def __init__(
                self, model_name: str, requested_output_names: list[str], inputs: list[Tensor], preferred_memory: Any
            ) -> None:
                self.model, self.wanted = model_name, requested_output_names
                self.feeds = {tensor.name(): tensor.as_numpy() for tensor in inputs}

            def exec(self) -> InferenceResponse:
                try:
                    found = server.infer(self.model, self.feeds)
                except TritonError as error:
                    return InferenceResponse(error=error)
                return InferenceResponse([Tensor(name, found[name]) for name in self.wanted])

        vars(module).update(
            Tensor=Tensor,
            TritonError=TritonError,
            InferenceRequest=InferenceRequest,
            InferenceResponse=InferenceResponse,
            PreferredMemory=lambda kind, device: (kind, device),
            TRITONSERVER_MEMORY_CPU=0,
            get_input_tensor_by_name=lambda request, name: request.tensors.get(name),
            get_output_tensor_by_name=lambda response, name: response.tensors[name],
        )
        return module

    def infer(self, name: str, feeds: dict[str, Any]) -> dict[str, Any]:
        """Run one model on one request.

        Raises:
            TritonError: the request or the answer is not what the config says, or the model answers with an error.
        """
        self.calls.append(name)
        config = self.configs[name]
        self._check(config, "input", feeds)
        if config.get("platform") == "ensemble":
            found = self._ensemble(config, feeds)
        elif config.get("backend") == "python":
            response = self._python(name).execute([Request(feeds)])[0]
            if response.has_error():
                raise response.error()
            found = {key: tensor.as_numpy() for key, tensor in response.tensors.items()}
        else:
            path = self.repository / name / "1" / "model.onnx"
            if name not in self.loaded:
                self.loaded[name] = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            names = [item["name"] for item in config["output"]]
            found = dict(zip(names, self.loaded[name].run(names, feeds), strict=True))
        self._check(config, "output", found)
        return found

    def warm_up(self, name: str) -> None:
        """Send the requests of ``model_warmup``."""
        for sample in self.configs[name].get("model_warmup", ()):
            feeds = {
                item["key"]: self._warm(name, sample["batch_size"], item["value"], item["key"])
                for item in sample["inputs"]
            }
            self.infer(name, feeds)

    def _warm(self, name: str, rows: int, value: dict[str, Any], key: str) -> Any:
        shape = [rows, *value["dims"]]
        if "input_data_file" in value:
            data = (self.repository / name / "warmup" / value["input_data_file"]).read_bytes()
            (length,) = struct.unpack("<I", data[:4])
            assert len(data) == 4 + length
            return np.array([data[4:]] * rows, dtype=object).reshape(shape)
        return np.zeros(shape, TYPES[value["data_type"]])

    def _python(self, name: str) -> Any:
        if name not in self.loaded:
            sys.modules["triton_python_backend_utils"] = self.backend_utils()
            spec = importlib.util.spec_from_file_location(f"served_{name}", self.repository / name / "1" / "model.py")
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            config = self.configs[name]
            parameters = {item["key"]: item["value"] for item in config.get("parameters", ())}
            model = module.TritonPythonModel()
            model.initialize(
                {
                    "model_config": json.dumps(config | {"parameters": parameters}),
                    "model_repository": str(self.repository / name),
                    "model_version": "1",
                    "model_name": name,
                }
            )
            self.loaded[name] = model
        return self.loaded[name]

    def _ensemble(self, config: dict[str, Any], feeds: dict[str, Any]) -> dict[str, Any]:
        have = dict(feeds)
        for step in config["ensemble_scheduling"]["step"]:
            given = {item["key"]: have[item["value"]] for item in step["input_map"]}
            found = self.infer(step["model_name"], given)
            have |= {item["value"]: found[item["key"]] for item in step["output_map"]}
        return {item["name"]: have[item["name"]] for item in config["output"]}

    @staticmethod
    def _check(config: dict[str, Any], side: str, tensors: dict[str, Any]) -> None:
        known = {item["name"]: item for item in config[side]}
        required = {name for name, item in known.items() if not item.get("optional")}
        if not required <= tensors.keys() <= known.keys():
            raise TritonError(f"{config['name']}: {side} {sorted(tensors)}, the config has {sorted(known)}")
        batch = config["max_batch_size"]
        for name, array in tensors.items():
            dims = ([-1] if batch else []) + known[name]["dims"]
            fits = len(dims) == array.ndim and all(a in (-1, b) for a, b in zip(dims, array.shape, strict=True))
            if not fits or array.dtype != TYPES[str(known[name]["data_type"])]:
                raise TritonError(f"{config['name']}: {name} is {array.dtype} {array.shape}, the config says {dims}")
            if not array.size or (batch and array.shape[0] > batch):
                raise TritonError(
                    f"{config['name']}: {name} has {array.shape}, of at most {batch} rows and no empty one"
                )
