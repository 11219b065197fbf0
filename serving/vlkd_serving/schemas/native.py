"""The native routes: search, caption, question, classification."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vlkd_serving.schemas.base import MODEL, PICTURE, PIXEL, Answer, Request

__all__ = [
    "CaptionRequest",
    "CaptionResponse",
    "ChangeResponse",
    "ClassifyRequest",
    "ClassifyResponse",
    "EntailRequest",
    "HealthResponse",
    "Label",
    "MatchRequest",
    "MatchResponse",
    "MatchedWord",
    "Patch",
    "PutItemRequest",
    "SearchRequest",
    "SearchResponse",
    "SearchResult",
    "VqaRequest",
    "VqaResponse",
]


class SearchRequest(Request):
    """A text or a picture to look for, or both mixed."""

    text: str | None = Field(None, description="What to look for.", examples=["a red circle"])
    image: str | None = Field(None, description=f"A picture to look for others like it: {PICTURE}")
    k: int = Field(10, description="How many results.", ge=1, examples=[5])
    offset: int = Field(0, description="Results to leave out, for the next page.", ge=0)
    where: str | None = Field(
        None, description="A filter on the metadata, for example class = 'beach'.", max_length=2000
    )
    weights: list[float] | None = Field(
        None, description="Of the text and the picture, where both are given.", min_length=2, max_length=2
    )


class PutItemRequest(Request):
    """A picture or a text to find this item by, and what is kept with it."""

    image: str | None = Field(None, description=PICTURE, examples=[PIXEL])
    text: str | None = Field(None, description="Embedded instead of a picture.")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Anything JSON can hold; filters see it.")


class ChangeResponse(Answer):
    """The change is on disk and will be found by every later search."""

    id: str
    sequence: int = Field(description="Number of the change.")


class _Generation(Request):
    model: str | None = MODEL
    num_beams: int | None = Field(None, description="Beam width; by default the model's own.", ge=1)
    max_new_tokens: int | None = Field(None, description="Longest answer in tokens; by default the model's own.", ge=1)


class CaptionRequest(_Generation):
    """A picture to describe."""

    image: str = Field(description=PICTURE, examples=[PIXEL])


class VqaRequest(_Generation):
    """A picture and a question about it."""

    image: str = Field(description=PICTURE, examples=[PIXEL])
    question: str = Field(description="A question about the picture.", examples=["what color is the circle?"])


class ClassifyRequest(Request):
    """A picture and the labels to choose from."""

    image: str = Field(description=PICTURE, examples=[PIXEL])
    labels: list[str] = Field(description="At least two.", min_length=2, examples=[["a circle", "a square"]])
    template: str = Field("{}", description="Each label is put in place of {}.", examples=["a picture of {}"])
    logit_scale: float = Field(
        100.0, description="Cosines times this go into the softmax.", gt=0, le=1000, allow_inf_nan=False
    )
    model: str | None = MODEL


class EntailRequest(Request):
    """A picture and a sentence that it may or may not show."""

    image: str = Field(description=PICTURE, examples=[PIXEL])
    hypothesis: str = Field(description="The sentence.", examples=["there is a circle"])
    model: str | None = MODEL


class MatchRequest(Request):
    """A picture and a text whose words are looked for in it."""

    image: str = Field(description=PICTURE, examples=[PIXEL])
    text: str = Field(description="A sentence about the picture.", examples=["a red circle"])
    model: str | None = MODEL


class SearchResult(Answer):
    """One picture found."""

    id: str
    score: float = Field(description="Cosine similarity to the query, -1 to 1.")
    image_url: str | None = Field(description="Address of the picture on this server, or null where it has none.")
    metadata: dict[str, Any]


class SearchResponse(Answer):
    """Pictures found, best first."""

    results: list[SearchResult]
    generation: int = Field(description="Generation of the index that answered.")
    latency_ms: float


class CaptionResponse(Answer):
    """A description of the picture."""

    caption: str
    score: float = Field(description="Geometric mean of the tokens' probabilities.")
    model: str
    latency_ms: float


class VqaResponse(Answer):
    """A short answer to the question."""

    answer: str
    score: float = Field(description="Geometric mean of the tokens' probabilities.")
    model: str
    latency_ms: float


class Label(Answer):
    """One label with its share of the softmax and its cosine similarity to the picture."""

    label: str
    score: float
    similarity: float


class ClassifyResponse(Answer):
    """Labels, best first; the scores add up to 1."""

    labels: list[Label]
    model: str
    latency_ms: float


class Patch(Answer):
    """A place in the grid that the picture is divided into."""

    row: int
    column: int
    score: float = Field(description="Cosine similarity to the word.")


class MatchedWord(Answer):
    """One word with what the picture holds for it."""

    text: str
    start: int = Field(description="Place of its first character in the text.")
    end: int = Field(description="Place behind its last character.")
    scores: list[list[float]] = Field(description="Cosine similarity of every patch, a list for each row.")
    top: list[Patch] = Field(description="The best patches, at most five, best first.")
    attention: list[list[float]] | None = Field(
        description="Self-attention of the best patch to every patch; null where the model's shared encoder has none."
    )


class MatchResponse(Answer):
    """The words of the text, in order; what was cut off at the model's longest text is not among them."""

    words: list[MatchedWord]
    rows: int
    columns: int
    region: list[float] = Field(
        description="What the grid divides: left, top, right, bottom in shares of the picture's width and height."
    )
    model: str
    latency_ms: float


class HealthResponse(Answer):
    """State of the server."""

    status: str
    detail: str | None = None
