"""What serving asks of a student: whole tasks for the index and the demo, single parts for the server's engine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlkd_hub.runtime.context_rows import Context
from vlkd_hub.runtime.matching import Word, WordMatch
from vlkd_hub.runtime.stepwise import StepwiseTexts

__all__ = ["EncodedPicture", "EncodedText", "Floats", "MatchItem", "Parts", "Student"]

Floats: TypeAlias = NDArray[np.float32]


class Student(Protocol):
    """A model that embeds, captions and answers; every method takes a batch."""

    def embed_images(self, images: list[Image.Image]) -> Floats:
        """(N, D) L2-normalised embeddings of N RGB pictures."""

    def embed_texts(self, texts: list[str]) -> Floats:
        """(N, D) L2-normalised embeddings of N texts."""

    def caption(
        self, images: list[Image.Image], *, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> Sequence[str]:
        """One caption a picture; None keeps the model's own setting."""

    def answer(
        self,
        images: list[Image.Image],
        questions: list[str],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> Sequence[str]:
        """One short answer a (picture, question) pair."""

    @property
    def matches_words(self) -> bool:
        """Whether :meth:`match_words` can be asked."""

    def match_words(self, image: Image.Image, text: str) -> WordMatch:
        """Compare the words of a text with the patches of a picture."""


@dataclass(frozen=True)
class EncodedPicture:
    """What the image encoder says of one picture.

    Args:
        embedding: L2-normalised, (D,).
        states: what the decoder looks at, (tokens, width).
    """

    embedding: Floats
    states: Floats

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.embedding.nbytes + self.states.nbytes


@dataclass(frozen=True)
class EncodedText:
    """What the text encoder says of one text; as :class:`EncodedPicture`, with the number of its tokens."""

    embedding: Floats
    states: Floats
    tokens: int


@dataclass(frozen=True)
class MatchItem:
    """A picture and a text whose words are looked for in it.

    Args:
        pixels: (3, H, W).
        region: what they show of the picture, see :class:`vlkd_hub.runtime.matching.WordMatch`.
        tokens: of the text, without padding.
        words: of the text.
    """

    pixels: Floats
    region: tuple[float, float, float, float]
    tokens: list[int]
    words: list[Word]


class Parts(Protocol):
    """The parts of one model, each of which has a batcher of its own in the engine."""

    @property
    def fingerprint(self) -> str:
        """Identity of the embedding space."""

    @property
    def dim(self) -> int:
        """Width of an embedding."""

    @property
    def precision(self) -> str:
        """Of the weights, for example ``fp32``."""

    @property
    def max_tokens(self) -> int:
        """Longest text; what is longer is cut."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can write, for example ``("caption", "vqa")``."""

    @property
    def matches_words(self) -> bool:
        """Whether :meth:`match` can be asked."""

    def preprocess(self, image: Image.Image) -> Floats:
        """One RGB picture to ``pixel_values``, (3, H, W)."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of one text, special tokens included, cut at the model's limit."""

    def detokenize(self, tokens: list[int]) -> str:
        """The text of tokens, special ones left out."""

    def build_prompt(self, task: str, question: str | None) -> str:
        """The text that stands before the decoder."""

    def settings(self, task: str, num_beams: int | None, max_new_tokens: int | None) -> Any:
        """How ``task`` chooses tokens: hashable; requests with equal settings are written together."""

    def encode_pictures(self, pixels: Sequence[Floats]) -> list[EncodedPicture]:
        """Run the image encoder on a batch."""

    def encode_texts(self, tokens: Sequence[list[int]]) -> list[EncodedText]:
        """Run the text encoder on a batch of token ids, padded to its longest."""

    def match_item(self, image: Image.Image, text: str) -> MatchItem:
        """Make one RGB picture and one text ready for :meth:`match`."""

    def match(self, items: Sequence[MatchItem]) -> list[WordMatch]:
        """Compare the words of each text with the patches of its picture."""

    def write(self, contexts: Sequence[Context], settings: Any, dropped: Collection[int]) -> StepwiseTexts:
        """Write a text for each context, one step at a time."""
