"""What requests and answers look like, and how a request that does not is explained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlkd_serving.errors import UnprocessableError

__all__ = [
    "CaptionRequest",
    "CaptionResponse",
    "EmbeddingItem",
    "EmbeddingsRequest",
    "EmbeddingsResponse",
    "ErrorBody",
    "ErrorResponse",
    "HealthResponse",
    "SearchRequest",
    "SearchResponse",
    "SearchResult",
    "Usage",
    "VqaRequest",
    "VqaResponse",
    "explain",
]

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
_PICTURE = "JPEG, PNG or WebP, as base64 or as a data URL."


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SearchRequest(_Request):
    """A text or a picture to look for."""

    text: str | None = Field(None, description="What to look for.", examples=["a red circle"])
    image: str | None = Field(None, description=f"A picture to look for others like it: {_PICTURE}")
    k: int = Field(10, description="How many results.", ge=1, examples=[5])


class _Generation(_Request):
    num_beams: int | None = Field(None, description="Beam width; by default the model's own.", ge=1)
    max_new_tokens: int | None = Field(None, description="Longest answer in tokens; by default the model's own.", ge=1)


class CaptionRequest(_Generation):
    """A picture to describe."""

    image: str = Field(description=_PICTURE, examples=[_PIXEL])


class VqaRequest(_Generation):
    """A picture and a question about it."""

    image: str = Field(description=_PICTURE, examples=[_PIXEL])
    question: str = Field(description="A question about the picture.", examples=["what color is the circle?"])


class EmbeddingsRequest(_Request):
    """The OpenAI shape; an input that is a data URL is embedded as a picture, any other as text."""

    input: str | list[str] = Field(description="Texts, or pictures as data URLs.", examples=[["a red circle"]])
    model: str | None = Field(None, description="Accepted and ignored: this server has one model.")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: little-endian fp32.")
    dimensions: int | None = Field(None, description="Only the model's own width is served.", ge=1)
    user: str | None = Field(None, description="Accepted and ignored.")


class SearchResult(BaseModel):
    """One picture found."""

    id: str
    score: float = Field(description="Cosine similarity to the query, -1 to 1.")
    image_url: str | None = Field(description="Address of the picture on this server, or null where it has none.")
    metadata: dict[str, Any]


class SearchResponse(BaseModel):
    """Pictures found, best first."""

    results: list[SearchResult]
    generation: int = Field(description="Generation of the index that answered.")
    latency_ms: float


class CaptionResponse(BaseModel):
    """A description of the picture."""

    caption: str
    model: str
    latency_ms: float


class VqaResponse(BaseModel):
    """A short answer to the question."""

    answer: str
    model: str
    latency_ms: float


class EmbeddingItem(BaseModel):
    """One L2-normalised embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Token counts; this server does not bill, so both are 0."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingsResponse(BaseModel):
    """Embeddings in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: Usage


class HealthResponse(BaseModel):
    """State of the server."""

    status: str
    detail: str | None = None


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(examples=["invalid_input"])
    message: str = Field(examples=["'k' must be at least 1, got 0."])
    param: str | None = Field(examples=["k"])
    request_id: str


class ErrorResponse(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "string_type": "a string",
    "list_type": "a list",
    "bool_type": "true or false",
    "string_unicode": "plain Unicode text, without lone surrogates",
    "model_type": "a JSON object",
}


def explain(error: ValidationError, known: list[str]) -> UnprocessableError:
    """Turn a validation error into one in our own words: the field, the value where it is short, and the limit."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "body"
    kind, context = first["type"], first.get("ctx", {})
    if kind == "missing":
        return UnprocessableError(f"'{name}' is required.", name)
    if kind == "extra_forbidden":
        shown = name if name.isprintable() and len(name) <= 40 else "(unprintable)"
        return UnprocessableError(f"Unknown field '{shown}'; known are: {', '.join(known)}.", shown)
    if kind == "greater_than_equal":
        return UnprocessableError(f"'{name}' must be at least {context['ge']}, got {first['input']}.", name)
    if kind == "literal_error":
        return UnprocessableError(f"'{name}' must be {context['expected']}.", name)
    expected = _EXPECTED.get(kind, "of another type or value")
    if name == "input":
        expected = "a string or a list of strings"
    return UnprocessableError(f"'{name}' must be {expected}.", name)
