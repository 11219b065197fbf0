"""The shapes of Hugging Face inference tasks, as ``huggingface_hub.InferenceClient`` sends and reads them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from vlkd_serving.schemas.base import MODEL, PICTURE, PIXEL, Answer, Request

__all__ = [
    "FeatureExtractionRequest",
    "GeneratedText",
    "ImageToTextParameters",
    "ImageToTextRequest",
    "LabelScore",
    "Sentences",
    "SimilarityRequest",
    "VqaAnswer",
    "VqaParameters",
    "VqaTaskRequest",
    "ZeroShotParameters",
    "ZeroShotRequest",
]


class ImageToTextParameters(Request):
    """How to write."""

    num_beams: int | None = Field(None, ge=1)
    max_new_tokens: int | None = Field(None, ge=1)


class ImageToTextRequest(Request):
    """A picture to describe; the picture's bytes alone as the body do as well."""

    inputs: str = Field(description=PICTURE, examples=[PIXEL])
    parameters: ImageToTextParameters = ImageToTextParameters(num_beams=None, max_new_tokens=None)
    model: str | None = MODEL


class GeneratedText(Answer):
    """A caption."""

    generated_text: str


class VqaParameters(Request):
    """How many answers."""

    top_k: int | None = Field(None, ge=1, description="Accepted; this model gives its one best answer.")


class VqaTaskRequest(Request):
    """A picture (``inputs`` or ``image``, which the client sends both) and a question."""

    inputs: str | None = Field(None, description=PICTURE, examples=[PIXEL])
    image: str | None = Field(None, description=PICTURE)
    question: str = Field(examples=["what color is it?"])
    parameters: VqaParameters = VqaParameters(top_k=None)
    model: str | None = MODEL


class VqaAnswer(Answer):
    """An answer; the score is the geometric mean of its tokens' probabilities."""

    score: float
    answer: str


class ZeroShotParameters(Request):
    """The labels to choose from."""

    candidate_labels: list[str] = Field(min_length=2, examples=[["a circle", "a square"]])
    hypothesis_template: str | None = Field(None, description="Each label is put in place of {}.")


class ZeroShotRequest(Request):
    """A picture to classify."""

    inputs: str = Field(description=PICTURE, examples=[PIXEL])
    parameters: ZeroShotParameters = Field(examples=[{"candidate_labels": ["a circle", "a square"]}])
    model: str | None = MODEL


class LabelScore(Answer):
    """A label and its share of the softmax."""

    label: str
    score: float


class FeatureExtractionRequest(Request):
    """Texts, or pictures as data URLs, to embed."""

    inputs: str | list[str] = Field(examples=["a red circle"])
    normalize: bool | None = Field(None, description="Embeddings are always normalised: false is refused.")
    truncate: bool | None = Field(None, description="Long texts are always cut at the model's limit.")
    truncation_direction: Literal["Left", "Right", "left", "right"] | None = Field(None, description="Only right.")
    prompt_name: str | None = Field(None, description="This model has no prompts: any name is refused.")
    dimensions: int | None = Field(None, ge=1, description="Only the model's own width is served.")
    encoding_format: Literal["float", "base64"] | None = Field(None, description="base64: little-endian fp32.")
    model: str | None = MODEL


class Sentences(Request):
    """One sentence and those to compare it with."""

    source_sentence: str
    sentences: list[str] = Field(min_length=1)


class SimilarityRequest(Request):
    """Texts, or pictures as data URLs, to compare."""

    inputs: Sentences = Field(examples=[{"source_sentence": "a dog", "sentences": ["a cat", "a puppy"]}])
    parameters: dict[str, Any] = Field(default_factory=dict, max_length=0, description="The client sends it empty.")
    model: str | None = MODEL
