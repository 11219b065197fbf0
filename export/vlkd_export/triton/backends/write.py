"""Triton, Python backend: captions and answers. The graphs are other models of this repository, called one by one.

It is the student's own runtime with Triton's models in place of its sessions, so beams, prompts and the end of a text
are what they are everywhere. It needs ``pip install vlkd-hub`` and no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from vlkd_hub.bundle import Manifest
from vlkd_hub.errors import InvalidInputError, VlkdError
from vlkd_hub.runtime import ImageProcessor, OnnxStudent, TextProcessor, load_image
from vlkd_hub.runtime.split_decoder import SplitDecoder
from vlkd_hub.runtime.student import read_generation_config

__all__ = ["TritonPythonModel"]


class ModelSession:
    """A model of this repository with the ``run`` of an onnxruntime session."""

    def __init__(self, name: str, outputs: list[str]) -> None:
        self.name = name
        self.outputs = outputs

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        wanted = list(output_names or self.outputs)
        request = pb_utils.InferenceRequest(
            model_name=self.name,
            requested_output_names=wanted,
            inputs=[pb_utils.Tensor(name, array) for name, array in feeds.items()],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = request.exec()
        if response.has_error():
            raise InvalidInputError(f"{self.name}: {response.error().message()}")
        return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in wanted]


class TritonPythonModel:
    """The name and the methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        bundle = Path(args["model_repository"]) / "bundle"
        outputs = json.loads((bundle / "graphs.json").read_text(encoding="utf-8"))
        sessions: dict[str, Any] = {name: ModelSession(name, names) for name, names in outputs.items()}
        sessions["decoder"] = SplitDecoder(sessions.pop("decoder_first"), sessions.pop("decoder_next"))
        manifest = Manifest.from_json((bundle / "manifest.json").read_text(encoding="utf-8"))
        self.task = config["parameters"]["task"]["string_value"]
        self.batch = int(config["max_batch_size"])
        self.student = OnnxStudent(
            manifest,
            sessions,
            ImageProcessor.from_pretrained(bundle),
            TextProcessor.from_pretrained(bundle),
            read_generation_config(bundle, manifest),
            self.batch,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        try:
            texts = self.write(request)
        except (VlkdError, UnicodeDecodeError) as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        rows = pb_utils.Tensor("TEXT", _column([text.encode() for text in texts]))
        return pb_utils.InferenceResponse([rows])

    def write(self, request: Any) -> list[str]:
        images = [load_image(bytes(row)) for row in _rows(request, "IMAGE") or []]
        asked = _rows(request, "QUESTION")
        questions = [None] * len(images) if asked is None else [bytes(row).decode() for row in asked]
        names = {"NUM_BEAMS": "num_beams", "MAX_NEW_TOKENS": "max_new_tokens"}
        options = {name: _number(request, key) for key, name in names.items()}
        settings = self.student.settings(self.task, **options)
        if settings.num_beams > self.batch:
            raise InvalidInputError(f"num_beams is {settings.num_beams}, and {self.batch} rows run at once here.")
        step = self.batch // settings.num_beams
        tokens: list[list[int]] = []
        for start in range(0, len(images), step):
            at = slice(start, start + step)
            tokens += self.student.write_tokens(self.task, images[at], questions[at], settings)
        return self.student.text_processor.decode(tokens)


def _rows(request: Any, name: str) -> list[Any] | None:
    found = pb_utils.get_input_tensor_by_name(request, name)
    return None if found is None else list(found.as_numpy().reshape(-1))


def _number(request: Any, name: str) -> int | None:
    """The first row's; a request has one setting."""
    rows = _rows(request, name)
    return int(rows[0]) if rows else None


def _column(texts: list[bytes]) -> Any:
    """Shape ``(rows, 1)`` of Python objects, as Triton's strings travel."""
    return np.array(texts, dtype=object).reshape(-1, 1)
