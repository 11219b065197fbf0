"""Triton, Python backend: bytes of pictures to ``pixel_values``. It needs ``pip install vlkd-hub`` and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from vlkd_hub.errors import VlkdError
from vlkd_hub.runtime import ImageProcessor, load_image

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """The name and the methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        self.process = ImageProcessor.from_pretrained(Path(args["model_repository"]) / "bundle")

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        rows = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        try:
            pixels = self.process([load_image(bytes(row)) for row in rows.reshape(-1)])
        except VlkdError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([pb_utils.Tensor("pixel_values", pixels)])
