"""Models whose encoders, or all of whose parts, run in other replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlkd_hub.runtime.matching import WordMatch
from vlkd_hub.runtime.stepwise import Written
from vlkd_serving.pre import Picture
from vlkd_serving.protocol import EncodedPicture, EncodedText
from vlkd_serving.scale.calls import ask
from vlkd_serving.served_model import ServedModel
from vlkd_serving.writing import TokenListener

__all__ = ["RemoteModel", "RemotelyEncoded"]


class RemotelyEncoded(ServedModel):
    """Writes here, and has pictures and texts encoded by :class:`vlkd_serving.scale.replicas.EncoderReplica`.

    Args:
        *args: as :class:`ServedModel`.
        encoder: handle of the encoders.
        **kwargs: as :class:`ServedModel`.
    """

    with_states = True
    """Whether the encoders send what a decoder looks at; it is a hundred times as long as the embedding."""

    def __init__(self, *args: Any, encoder: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._encoder = encoder

    async def encode_picture(self, picture: Picture, param: str, deadline: float) -> EncodedPicture:
        """As :class:`ServedModel`, in a replica that is free."""
        found: EncodedPicture = await ask(self._encoder.encode_picture, deadline, picture, param, self.with_states)
        return found

    async def encode_texts(self, texts: Sequence[str], deadline: float) -> list[EncodedText]:
        """As :class:`ServedModel`, in a replica that is free."""
        if not texts:
            return []
        found: list[EncodedText] = await ask(self._encoder.encode_texts, deadline, list(texts), self.with_states)
        return found


class RemoteModel(RemotelyEncoded):
    """Nothing runs here: what the ingress knows of a model is its tokenizer and its manifest.

    Args:
        *args: as :class:`RemotelyEncoded`.
        decoder: handle of the decoders; None for a model that only embeds.
        matches_words: the encoders have the graphs for it open.
        **kwargs: as :class:`RemotelyEncoded`.
    """

    with_states = False

    def __init__(self, *args: Any, decoder: Any | None, matches_words: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._decoder, self._matches_words = decoder, matches_words

    @property
    def matches_words(self) -> bool:
        """As :class:`ServedModel`."""
        return self._matches_words

    async def match(self, picture: Picture, text: str, deadline: float) -> WordMatch:
        """As :class:`ServedModel`, in an encoder that is free."""
        self.require_matching()
        found: WordMatch = await ask(self._encoder.match, deadline, picture, text)
        return found

    async def write(
        self,
        task: str,
        picture: Picture,
        question: str | None,
        options: tuple[int | None, int | None],
        deadline: float,
        on_token: TokenListener | None = None,
    ) -> tuple[Written, int]:
        """As :class:`ServedModel`, in a replica that is free; ``on_token`` hears every token when the text is done."""
        self.require_task(task)
        assert self._decoder is not None  # a model with tasks has a decoder
        written, prompt_tokens = await ask(self._decoder.write, deadline, task, picture, question, options)
        if on_token is not None:
            for token in written.tokens:
                on_token(token)
        return written, prompt_tokens
