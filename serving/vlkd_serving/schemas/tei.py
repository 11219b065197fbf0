"""The shapes of text-embeddings-inference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlkd_serving.schemas.base import Answer, Request

__all__ = ["EmbedRequest", "EmbeddingKind", "InfoResponse", "ModelType"]


class EmbedRequest(Request):
    """Texts, or pictures as data URLs, to embed."""

    inputs: str | list[str] = Field(examples=[["a red circle"]])
    normalize: bool = Field(True, description="Embeddings are always normalised: false is refused.")
    truncate: bool | None = Field(None, description="Long texts are always cut at the model's limit.")
    truncation_direction: Literal["Left", "Right", "left", "right"] | None = Field(None, description="Only right.")
    prompt_name: str | None = Field(None, description="This model has no prompts: any name is refused.")
    dimensions: int | None = Field(None, ge=1, description="Only the model's own width is served.")


class EmbeddingKind(Answer):
    """How a text becomes one vector."""

    pooling: str


class ModelType(Answer):
    """Kind of the model."""

    embedding: EmbeddingKind


class InfoResponse(Answer):
    """The model and the limits of this server."""

    model_id: str
    model_sha: str
    model_dtype: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_requests: int
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
