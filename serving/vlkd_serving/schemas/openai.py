"""The OpenAI shapes: embeddings, chat completions with pictures, models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlkd_serving.schemas.base import MODEL, PIXEL, Answer, Request

__all__ = [
    "ChatChoice",
    "ChatMessage",
    "ChatRequest",
    "ChatResponse",
    "ChatUsage",
    "EmbeddingItem",
    "EmbeddingsRequest",
    "EmbeddingsResponse",
    "ImagePart",
    "ImageUrl",
    "ModelCard",
    "ModelList",
    "ReplyMessage",
    "StreamOptions",
    "TextPart",
    "Usage",
]

_IGNORED = "Accepted without effect: texts are written greedily or by beam search."
_EXAMPLE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what color is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ],
    }
]


class EmbeddingsRequest(Request):
    """The OpenAI shape; an input that is a data URL is embedded as a picture, any other as text."""

    input: str | list[str] = Field(description="Texts, or pictures as data URLs.", examples=[["a red circle"]])
    model: str | None = MODEL
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: little-endian fp32.")
    dimensions: int | None = Field(None, description="Only the model's own width is served.", ge=1)
    user: str | None = Field(None, description="Accepted and ignored.")


class EmbeddingItem(Answer):
    """One L2-normalised embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(Answer):
    """Tokens of the texts; pictures have none."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingsResponse(Answer):
    """Embeddings in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: Usage


class ImageUrl(Request):
    """Where the picture is: a data URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = Field(None, description="Accepted without effect.")


class ImagePart(Request):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class TextPart(Request):
    """A text in a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Request):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart | ImagePart]
    name: str | None = None


class StreamOptions(Request):
    """What a stream carries besides the text."""

    include_usage: bool = False


class ChatRequest(Request):
    """The last picture of the conversation, and the text of the last user message as a question about it.

    Without a text, or where it only asks to describe the picture, the answer is a caption.
    """

    messages: list[ChatMessage] = Field(min_length=1, max_length=64, examples=[_EXAMPLE])
    model: str | None = MODEL
    max_tokens: int | None = Field(None, ge=1, description="Longest answer; by default the model's own.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The newer name of max_tokens.")
    stream: bool = Field(False, description="Send the answer in server-sent events as it is written.")
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=1, description="One answer a request.")
    temperature: float | None = Field(None, ge=0, le=2, description=_IGNORED)
    top_p: float | None = Field(None, ge=0, le=1, description=_IGNORED)
    seed: int | None = Field(None, description=_IGNORED)
    user: str | None = Field(None, description="Accepted and ignored.")


class ReplyMessage(Answer):
    """The model's message."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(Answer):
    """One answer; ``length`` means that it was cut at the limit."""

    index: int = 0
    message: ReplyMessage
    finish_reason: Literal["stop", "length"]


class ChatUsage(Usage):
    """Tokens of the prompt, the mask tokens included, and of the answer."""

    completion_tokens: int


class ChatResponse(Answer):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage


class ModelCard(Answer):
    """A model of this server."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "vlkd"


class ModelList(Answer):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
