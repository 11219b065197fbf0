"""One loaded model: its parts, a batcher before each, and the cache of its image encoder."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.matching import WordMatch
from vlkd_hub.runtime.stepwise import Written
from vlkd_serving.batching import DynamicBatcher
from vlkd_serving.context import current
from vlkd_serving.encoder_cache import EncoderCache
from vlkd_serving.errors import NotFoundError, UnprocessableError
from vlkd_serving.memory import collector_passes_over, collector_sees_again
from vlkd_serving.metrics import Metrics
from vlkd_serving.pre import Picture, PrePool
from vlkd_serving.protocol import EncodedPicture, EncodedText, Floats, MatchItem, Parts
from vlkd_serving.settings import ServerSettings
from vlkd_serving.slots import Slots
from vlkd_serving.writing import ContinuousWriter, TokenListener

__all__ = ["ServedModel"]

PROMPTS_KEPT = 64
"""Prompts whose encodings are kept: the caption's is the same for every picture, and questions repeat."""


class ServedModel:
    """A model in service.

    Args:
        name: by which requests ask for it.
        parts: the model.
        settings: sizes of batches and queues.
        pre: decodes and tokenises.
        core: threads that run the model's parts.
        slots: one permit for each of these threads.
        metrics: of all parts.
    """

    def __init__(
        self,
        name: str,
        parts: Parts,
        settings: ServerSettings,
        *,
        pre: PrePool,
        core: Executor,
        slots: Slots,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self.parts = parts
        self.cache = EncoderCache(settings.picture_cache_bytes, metrics)
        self._settings = settings
        self._pre = pre
        self._prompts: OrderedDict[tuple[str, str | None], EncodedText] = OrderedDict()
        common: dict[str, Any] = {
            "executor": core,
            "slots": slots,
            "max_delay_s": settings.max_delay_s,
            "max_queue": settings.max_queue,
            "metrics": metrics,
        }
        sizes: dict[str, Any] = {
            "max_batch": settings.max_batch,
            "enough": settings.enough,
            "at_once": settings.core_workers,
        }
        self._pictures: DynamicBatcher[Floats, EncodedPicture] = DynamicBatcher(
            "image_encoder", lambda items, _: parts.encode_pictures(items), **sizes, **common
        )
        self._texts: DynamicBatcher[list[int], EncodedText] = DynamicBatcher(
            "text_encoder", lambda items, _: parts.encode_texts(items), **sizes, **common
        )
        self._matches: DynamicBatcher[MatchItem, WordMatch] = DynamicBatcher(
            "match", lambda items, _: parts.match(items), **sizes, **common
        )
        self._writer = ContinuousWriter(
            "decoder",
            parts.write,
            max_rows=settings.max_texts,
            max_groups=settings.max_groups,
            join_delay_s=settings.join_delay_s,
            **common,
        )

    def start(self) -> None:
        """Start the batchers; call it inside the running event loop."""
        for part in self._batchers:
            part.start()
        collector_passes_over()

    async def stop(self) -> None:
        """Stop the batchers; what waits in them fails."""
        for part in self._batchers:
            await part.stop()
        collector_sees_again()

    @property
    def alive(self) -> bool:
        """Whether every batcher works."""
        return all(part.alive for part in self._batchers)

    @property
    def _batchers(self) -> tuple[DynamicBatcher[Any, Any] | ContinuousWriter, ...]:
        matches = (self._matches,) if self.parts.matches_words else ()
        return (self._pictures, self._texts, self._writer, *matches)

    async def encode_picture(self, picture: Picture, param: str, deadline: float) -> EncodedPicture:
        """Embedding and states of one picture, from the cache or from the encoder.

        Raises:
            UnprocessableError: the picture cannot be read, or the encoder fails on it alone; ``param`` names the field.
        """
        with self._pictures.expect():
            prepared = await self._pre.picture(picture, self.parts, self.cache, param, deadline)
        if prepared.encoded is not None:
            return prepared.encoded
        assert prepared.pixels is not None
        pixels, priority = prepared.pixels, current().priority
        # Another asker of the same picture may have more time than this one.
        longest = max(deadline, asyncio.get_running_loop().time() + self._settings.deadline_s)
        try:
            return await self.cache.encode(
                prepared.key, lambda: self._pictures.enqueue(pixels, longest, priority=priority), deadline
            )
        except UnprocessableError as error:
            raise UnprocessableError(error.message, param) from None

    async def encode_texts(self, texts: Sequence[str], deadline: float) -> list[EncodedText]:
        """Embedding and states of each text."""
        if not texts:
            return []
        with self._texts.expect(len(texts)):
            tokens = await self._pre.tokens(texts, self.parts, deadline)
        priority = current().priority
        submitted = (self._texts.submit(ids, deadline, priority=priority, length=len(ids)) for ids in tokens)
        encoded: list[EncodedText] = await gather_all(*submitted)
        return encoded

    async def write(
        self,
        task: str,
        picture: Picture,
        question: str | None,
        options: tuple[int | None, int | None],
        deadline: float,
        on_token: TokenListener | None = None,
    ) -> tuple[Written, int]:
        """Caption a picture, or answer a question about it.

        Returns:
            The text, and the number of tokens of its prompt.

        Raises:
            UnprocessableError: the model has no such task.
        """
        self.require_task(task)
        settings = self.parts.settings(task, *options)
        with self._writer.expect():
            prompt = self._kept_prompt(task, question)
            if prompt is not None:
                encoded = await self.encode_picture(picture, "image", deadline)
            else:
                encoded, prompt = await gather_all(
                    self.encode_picture(picture, "image", deadline), self._prompt(task, question, deadline)
                )
        context = (encoded.states, prompt.states)
        priority = current().priority
        written = await self._writer.submit(context, settings, deadline, priority=priority, on_token=on_token)
        return written, prompt.tokens

    @property
    def matches_words(self) -> bool:
        """Whether :meth:`match` can be asked."""
        return self.parts.matches_words

    async def match(self, picture: Picture, text: str, deadline: float) -> WordMatch:
        """Look for the words of a text in a picture.

        Raises:
            NotFoundError: the model does not match words.
            UnprocessableError: the picture cannot be read.
        """
        self.require_matching()
        with self._matches.expect():
            item = await self._pre.match_item(picture, text, self.parts, "image", deadline)
        priority = current().priority
        try:
            return await self._matches.submit(item, deadline, priority=priority, length=len(item.tokens))
        except UnprocessableError as error:
            raise UnprocessableError(error.message, "image") from None

    def require_matching(self) -> None:
        """Raises :class:`NotFoundError` unless the model matches words."""
        if not self.matches_words:
            raise NotFoundError(
                f"The model '{self.name}' does not match words with patches here: that takes a bundle exported with "
                "--match-words, and `vlkd serve --match-words`.",
                "model",
            )

    def require_task(self, task: str) -> None:
        """Raises :class:`UnprocessableError` unless the model has this task."""
        if task not in self.parts.tasks:
            known = ", ".join(self.parts.tasks) or "none: it only embeds"
            raise UnprocessableError(f"The model '{self.name}' has no task '{task}'; its tasks are {known}.", "model")

    def _kept_prompt(self, task: str, question: str | None) -> EncodedText | None:
        kept = self._prompts.get((task, question))
        if kept is not None:
            self._prompts.move_to_end((task, question))
        return kept

    async def _prompt(self, task: str, question: str | None, deadline: float) -> EncodedText:
        try:
            text = self.parts.build_prompt(task, question)
        except InvalidInputError as error:
            raise UnprocessableError(str(error), "question") from None
        (encoded,) = await self.encode_texts([text], deadline)
        self._prompts[task, question] = encoded
        if len(self._prompts) > PROMPTS_KEPT:
            self._prompts.popitem(last=False)
        return encoded


async def gather_all(*work: Any) -> Any:
    """Every result in order; the first error is raised only after all have ended, so none runs on unadmitted."""
    if len(work) == 1:
        return [await work[0]]
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
