"""The KServe v2 ("open inference") protocol, JSON only."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vlkd_serving.schemas.base import Answer, Request

__all__ = [
    "InferRequest",
    "InferResponse",
    "ModelMetadata",
    "RequestedOutput",
    "ServerMetadata",
    "Tensor",
    "TensorMetadata",
]


class Tensor(Request):
    """A tensor of strings; pictures as base64 or data URLs."""

    name: str = Field(description="image, text or question.")
    shape: list[int] = Field(min_length=1, max_length=2, description="[N] or [N, 1].")
    datatype: str = Field(description="BYTES.")
    data: list[Any] = Field(description="N strings, flat or nested as the shape says.")
    parameters: dict[str, Any] | None = None


class RequestedOutput(Request):
    """An output by name."""

    name: str = Field(description="embedding, caption or answer.")
    parameters: dict[str, Any] | None = None


class InferRequest(Request):
    """One inference. ``image`` or ``text`` gives ``embedding``; ``image`` gives ``caption`` where asked for; ``image``
    with ``question`` gives ``answer``."""

    id: str | None = Field(None, max_length=128)
    parameters: dict[str, Any] | None = None
    inputs: list[Tensor] = Field(
        min_length=1,
        max_length=2,
        examples=[[{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a red circle"]}]],
    )
    outputs: list[RequestedOutput] | None = Field(None, max_length=1)


class OutputTensor(Answer):
    """A tensor, flat in row-major order."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class InferResponse(Answer):
    """The answer to one inference."""

    model_name: str
    model_version: str
    id: str | None
    outputs: list[OutputTensor]


class TensorMetadata(Answer):
    """Name, type and shape of a tensor; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Answer):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(Answer):
    """The server."""

    name: str
    version: str
    extensions: list[str]
