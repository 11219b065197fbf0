"""Triton, Python backend: texts to token ids. It needs ``pip install vlkd-hub`` and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from vlkd_hub.errors import VlkdError
from vlkd_hub.runtime import TextProcessor

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """The name and the methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        self.process = TextProcessor.from_pretrained(Path(args["model_repository"]) / "bundle")

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        rows = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        try:
            input_ids, attention_mask = self.process([bytes(row).decode() for row in rows.reshape(-1)])
        except (VlkdError, UnicodeDecodeError) as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        tensors = [pb_utils.Tensor("input_ids", input_ids), pb_utils.Tensor("attention_mask", attention_mask)]
        return pb_utils.InferenceResponse(tensors)
