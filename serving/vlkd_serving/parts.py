"""The parts of an ONNX student, one call each, so that every part can be batched on its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime import GenerationSettings, OnnxStudent
from vlkd_hub.runtime.context_rows import Context, pad_contexts
from vlkd_hub.runtime.decoder import CachedDecoder
from vlkd_hub.runtime.matching import WordMatch
from vlkd_hub.runtime.stepwise import StepwiseTexts, generate_stepwise
from vlkd_serving.protocol import EncodedPicture, EncodedText, Floats, MatchItem

__all__ = ["OnnxParts"]

SETTINGS_KEPT = 64
"""Ways of choosing tokens that are kept: nearly every request asks for the same."""


class OnnxParts:
    """A :class:`vlkd_serving.protocol.Parts` on a bundle; safe to share between threads.

    Args:
        student: an opened bundle.
    """

    def __init__(self, student: OnnxStudent) -> None:
        self.student = student
        self._text = student.text_processor
        self._settings = lru_cache(maxsize=SETTINGS_KEPT)(self._merged_settings)

    @property
    def fingerprint(self) -> str:
        """See :class:`vlkd_serving.protocol.Parts`."""
        return self.student.manifest.fingerprint

    @property
    def dim(self) -> int:
        """See :class:`vlkd_serving.protocol.Parts`."""
        return self.student.manifest.embedding_dim

    @property
    def precision(self) -> str:
        """See :class:`vlkd_serving.protocol.Parts`."""
        return self.student.manifest.precision

    @property
    def max_tokens(self) -> int:
        """See :class:`vlkd_serving.protocol.Parts`."""
        return int((self._text.tokenizer.truncation or {}).get("max_length", 0))

    @property
    def tasks(self) -> tuple[str, ...]:
        """See :class:`vlkd_serving.protocol.Parts`; none where the bundle has no decoder."""
        return tuple(self._text.tasks) if self.student.manifest.generation is not None else ()

    @property
    def matches_words(self) -> bool:
        """See :class:`vlkd_serving.protocol.Parts`; only where the bundle has these graphs and they were opened."""
        return self.student.matches_words

    def preprocess(self, image: Image.Image) -> Floats:
        """See :class:`vlkd_serving.protocol.Parts`."""
        pixels: Floats = self.student.image_processor([image])[0]
        return pixels

    def tokenize(self, text: str) -> list[int]:
        """See :class:`vlkd_serving.protocol.Parts`."""
        input_ids, mask = self._text([text])
        return [int(token) for token in input_ids[0][mask[0] == 1]]

    def detokenize(self, tokens: list[int]) -> str:
        """See :class:`vlkd_serving.protocol.Parts`."""
        return self._text.decode([tokens])[0]

    def build_prompt(self, task: str, question: str | None) -> str:
        """See :class:`vlkd_serving.protocol.Parts`."""
        return self._text.build_prompt(task, question)

    def settings(self, task: str, num_beams: int | None, max_new_tokens: int | None) -> GenerationSettings:
        """See :class:`vlkd_serving.protocol.Parts`."""
        return self._settings(task, num_beams, max_new_tokens)

    def _merged_settings(self, task: str, num_beams: int | None, max_new_tokens: int | None) -> GenerationSettings:
        return self.student.settings(task, num_beams=num_beams, max_new_tokens=max_new_tokens)

    def encode_pictures(self, pixels: Sequence[Floats]) -> list[EncodedPicture]:
        """See :class:`vlkd_serving.protocol.Parts`. Rows are copied: a kept one must not hold its whole batch."""
        embeds, states = self.student.encode_image(np.stack(pixels))
        if len(pixels) == 1:
            return [EncodedPicture(embeds[0], states[0])]
        return [EncodedPicture(embeds[row].copy(), states[row].copy()) for row in range(len(pixels))]

    def encode_texts(self, tokens: Sequence[list[int]]) -> list[EncodedText]:
        """See :class:`vlkd_serving.protocol.Parts`."""
        embeds, states = self.student.encode_text(*self._text.pad(tokens))
        return [
            EncodedText(embeds[row].copy(), states[row, : len(ids)].copy(), len(ids)) for row, ids in enumerate(tokens)
        ]

    def match_item(self, image: Image.Image, text: str) -> MatchItem:
        """See :class:`vlkd_serving.protocol.Parts`."""
        tokens, words = self._text.spell(text)
        return MatchItem(self.preprocess(image), self.student.image_processor.region(image.size), tokens, words)

    def match(self, items: Sequence[MatchItem]) -> list[WordMatch]:
        """See :class:`vlkd_serving.protocol.Parts`."""
        pixels = np.stack([item.pixels for item in items])
        texts = [(item.tokens, item.words) for item in items]
        return self.student.match_pixels(pixels, texts, [item.region for item in items])

    def write(
        self, contexts: Sequence[Context], settings: GenerationSettings, dropped: Collection[int]
    ) -> StepwiseTexts:
        """See :class:`vlkd_serving.protocol.Parts`."""
        context, mask = pad_contexts(contexts)
        sessions, spec = self.student.sessions, self.student.manifest.generation
        if spec is None:
            raise InvalidInputError("This model only embeds: it was exported without a decoder, so it cannot write.")
        decoder = CachedDecoder(sessions["cross_attention"], sessions["decoder"], spec, context, mask)
        return generate_stepwise(decoder, len(contexts), settings, with_scores=True, dropped=dropped)
