"""The engine: ``pre -> core -> post`` for every request, whatever dialect it came in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.matching import WordMatch
from vlkd_serving.admission import Admission
from vlkd_serving.background import follow_index, show_index, unload_idle_models
from vlkd_serving.canary import Canary, check_model
from vlkd_serving.context import current
from vlkd_serving.errors import ForbiddenError, NotFoundError, ServingError, UnavailableError
from vlkd_serving.index import Item, LiveIndex, LiveWriter, mix
from vlkd_serving.metrics import Metrics
from vlkd_serving.model_pool import ModelPool, ModelSource
from vlkd_serving.pre import Picture, PrePool, run_on
from vlkd_serving.protocol import EncodedPicture, EncodedText, Floats, Parts
from vlkd_serving.questions import GenerationOptions, SearchAnswer, SearchQuestion, Text
from vlkd_serving.served_model import ServedModel, gather_all
from vlkd_serving.settings import ServerSettings
from vlkd_serving.slots import Slots
from vlkd_serving.tracing import span
from vlkd_serving.writing import TokenListener

__all__ = ["Engine"]

logger = logging.getLogger("vlkd.serving")

WARMUP_DEADLINE_S = 60.0


class Engine:
    """The models, their batchers and the index of one server.

    Pictures are decoded and texts tokenised on a pool of threads (pre), each model part has a batcher that runs on
    another (core), and the index is searched on the first pool again (post). It is changed on a thread of its own.

    Args:
        models: the first is the default, and the one that the index belongs to.
        settings: limits and sizes.
        index: what ``search`` searches, or None.
        metrics: made here if None.
        writer: changes ``index``; entered by the caller, who leaves it after :meth:`stop`. None: it is never changed.
    """

    def __init__(
        self,
        models: Sequence[ModelSource],
        settings: ServerSettings,
        index: LiveIndex | None = None,
        metrics: Metrics | None = None,
        writer: LiveWriter | None = None,
    ) -> None:
        self.settings = settings
        self.index = index
        self.writer = writer
        self.metrics = metrics or Metrics()
        if writer is not None:
            writer.on_failure = self.metrics.compaction_failures.inc
        self.state: Literal["loading", "ready", "draining"] = "loading"
        self.admission = Admission(settings.max_inflight, self.metrics)
        self._pre = PrePool(settings, self.metrics)
        self._core = ThreadPoolExecutor(settings.core_workers, thread_name_prefix="vlkd-core")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="vlkd-index-writer")
        self._slots = Slots(settings.core_workers)
        self.models = ModelPool(models, settings, self._serve, self.metrics)
        self._canary = Canary(self._check_default)
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load the default model, warm it up by its own check, and follow the index and idle models."""
        async with self.models.use(None) as model:
            await check_model(model, asyncio.get_running_loop().time() + WARMUP_DEADLINE_S, everything=True)
        loop = asyncio.get_running_loop()
        if self.index is not None:
            show_index(self.index, self.metrics)
            follow = follow_index(self.index, self.metrics, self.settings.index_poll_s)
            self._background.append(loop.create_task(follow, name="index-poller"))
        if self.settings.idle_unload_s:
            unload = unload_idle_models(self.models, self.settings.idle_unload_s)
            self._background.append(loop.create_task(unload, name="idle-unloader"))
        self.state = "ready"

    def begin_drain(self) -> None:
        """Turn new work away from now on; what was admitted runs to its end."""
        self.state = "draining"

    async def stop(self) -> None:
        """Wait for what was admitted, at most ``drain_s``, then stop every thread."""
        self.begin_drain()
        until = time.monotonic() + self.settings.drain_s
        while self.admission.inflight and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for task in self._background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.models.close()
        self._pre.shutdown()
        self._writing.shutdown(wait=False, cancel_futures=True)
        self._core.shutdown(wait=False, cancel_futures=True)

    async def embed_texts(self, texts: Sequence[str], model: str | None = None) -> list[EncodedText]:
        """One embedding a text."""
        async with self._work(len(texts), model, "embed") as (served, deadline):
            return await served.encode_texts(texts, deadline)

    async def embed_pictures(
        self, pictures: Sequence[Picture], param: str = "image", model: str | None = None
    ) -> list[EncodedPicture]:
        """One embedding a picture.

        Raises:
            ServingError: a picture that cannot be used; ``param`` names the field.
        """
        async with self._work(len(pictures), model, "embed") as (served, deadline):
            found: list[EncodedPicture] = await gather_all(
                *(served.encode_picture(picture, param, deadline) for picture in pictures)
            )
            return found

    async def write(
        self,
        task: str,
        picture: Picture,
        question: str | None = None,
        options: GenerationOptions = (None, None),
        model: str | None = None,
        on_token: TokenListener | None = None,
    ) -> Text:
        """Caption a picture (task ``caption``), or answer a question about it (task ``vqa``)."""
        async with self._work(1, model, task) as (served, deadline):
            written, prompt_tokens = await served.write(task, picture, question, options, deadline, on_token)
            text = served.parts.detokenize(written.tokens)
        return Text(text, written.score or 0.0, prompt_tokens, len(written.tokens))

    def detokenizer(self, model: str) -> Callable[[list[int]], str]:
        """Turns the tokens of a text that is still being written into words; for use while :meth:`write` runs."""
        return self.models.detokenizer(model)

    async def classify(self, picture: Picture, prompts: Sequence[str], model: str | None = None) -> Floats:
        """Cosine similarity of a picture to each prompt, (N,)."""
        async with self._work(1 + len(prompts), model, "classify") as (served, deadline):
            encoded, texts = await gather_all(
                served.encode_picture(picture, "image", deadline), served.encode_texts(prompts, deadline)
            )
        similarities: Floats = np.stack([text.embedding for text in texts]) @ encoded.embedding
        return similarities

    async def match(self, picture: Picture, text: str, model: str | None = None) -> WordMatch:
        """Where in a picture each word of a text is.

        Raises:
            NotFoundError: the model does not match words.
        """
        async with self._work(1, model, "match") as (served, deadline):
            return await served.match(picture, text, deadline)

    async def search(self, question: SearchQuestion) -> SearchAnswer:
        """The items of the index that fit a text, a picture, or both; and the generation that answered."""
        self._require_search()
        texts, pictures = question.texts, question.pictures
        async with self._work(len(texts) + len(pictures), None, "search") as (served, deadline):
            of_texts, of_pictures = await gather_all(
                served.encode_texts(texts, deadline),
                gather_all(*(served.encode_picture(each, "image", deadline) for each in pictures)),
            )
            parts = [each.embedding for each in (*of_texts, *of_pictures)]
            query = parts[0] if len(parts) == 1 else mix(parts, question.weights)
            return await self._find(query, question, deadline)

    async def put_item(self, item: Item, picture: Picture | None, text: str | None) -> int:
        """Add an item to the index, or replace it, by a picture or a text; returns the number of the change.

        Raises:
            ForbiddenError: the server may not change its index.
            UnavailableError: the disk refused; the change is not confirmed.
        """
        writer = self.require_writer()
        async with self._work(1, None, "index") as (served, deadline):
            if picture is not None:
                vector = (await served.encode_picture(picture, "image", deadline)).embedding
            else:
                (encoded,) = await served.encode_texts([text or ""], deadline)
                vector = encoded.embedding
            return await self._change(lambda: writer.put([item], vector[None]), deadline)

    async def remove_item(self, item_id: str) -> int:
        """Remove an item from the index; returns the number of the change.

        Raises:
            NotFoundError: the index has no such item.
            ForbiddenError: the server may not change its index.
            UnavailableError: the disk refused; the change is not confirmed.
        """
        writer = self.require_writer()
        self.require_ready()
        with self.admission.admit(1):
            try:
                return await self._change(lambda: writer.remove([item_id]), self._deadline())
            except InvalidInputError:
                raise NotFoundError("The index has no item with this id.", "id") from None

    async def picture_path(self, item_id: str) -> Path | None:
        """Where the picture of an indexed item lies, or None."""
        reader = self.require_index().current
        return await self._pre.run(lambda: reader.picture_path(item_id), self._deadline())

    async def canary(self) -> None:
        """Whether the default model answers: one text and one tiny picture through its real batchers.

        A model that fails is dropped, so that the next request or check loads it anew. One that was unloaded because
        it is idle counts as ready: it is loaded when it is asked for, and a check is no reason to.

        Raises:
            UnavailableError: a part did not answer in time or failed. A full queue is work, not illness: it raises
                nothing.
        """
        await self._canary.ask()

    @property
    def alive(self) -> bool:
        """Whether every batcher's worker runs."""
        return self.models.alive

    @property
    def degraded(self) -> str | None:
        """Why the index is not in its newest state, or None."""
        return self.index.degraded if self.index is not None else None

    def require_index(self) -> LiveIndex:
        """The index.

        Raises:
            UnavailableError: the server was started without one.
        """
        if self.index is None:
            raise UnavailableError("This server has no index: start it with `vlkd serve --index DIR` to search.")
        return self.index

    def require_writer(self) -> LiveWriter:
        """The writer of the index.

        Raises:
            ForbiddenError: the server was started without it.
        """
        if self.writer is None:
            raise ForbiddenError("This server does not change its index: start it with `vlkd serve --writable`.")
        return self.writer

    def require_ready(self) -> None:
        """Raises :class:`UnavailableError` unless new work is taken."""
        if self.state != "ready":
            self.metrics.rejected.labels(reason=self.state).inc()
            raise UnavailableError(f"The server is {self.state}; retry shortly.")

    async def _check_default(self) -> None:
        name, model = self.models.names[0], None
        try:
            async with self.models.check(name) as model:
                if model is not None:
                    await check_model(model, asyncio.get_running_loop().time() + self.settings.canary_s)
        except ServingError:
            raise
        except Exception as error:
            if model is not None:
                await self.models.discard(name, model)
            raise UnavailableError("The model does not answer.") from error

    def _serve(self, name: str, parts: Parts) -> ServedModel:
        """Put a loaded model in service: here, on this engine's own threads."""
        return ServedModel(
            name,
            parts,
            self.settings,
            pre=self._pre,
            core=self._core,
            slots=self._slots,
            metrics=self.metrics,
        )

    def _require_search(self) -> None:
        """Raises :class:`UnavailableError` where there is nothing to search."""
        self.require_index()

    async def _change(self, work: Callable[[], int], deadline: float) -> int:
        """Change the index: one change after the other, on the thread of the writer."""
        try:
            return await run_on(self._writing, work, deadline, self.metrics)
        except OSError as error:
            logger.error("the index could not be changed", exc_info=error)
            raise UnavailableError(
                "The index could not be written: the server's disk is full or fails. The change is not confirmed; "
                "repeat it when the disk is mended."
            ) from error

    async def _find(self, query: Floats, question: SearchQuestion, deadline: float) -> SearchAnswer:
        """Search by a vector, (D,): here, in this engine's own index."""
        reader = self.require_index().current
        hits = await self._pre.search(reader, query, question.k, deadline, offset=question.offset, where=question.where)
        return reader.manifest.generation, hits

    @asynccontextmanager
    async def _work(self, items: int, model: str | None, task: str) -> AsyncIterator[tuple[ServedModel, float]]:
        """Hold room for ``items``; yields the model and the deadline on the event loop's clock."""
        self.require_ready()
        with self.admission.admit(items), span(f"engine.{task}", items=items):
            deadline = self._deadline()
            async with self.models.use(model) as served:
                yield served, deadline

    def _deadline(self) -> float:
        own = current().timeout_s
        limit = self.settings.deadline_s if own is None else min(own, self.settings.deadline_s)
        return asyncio.get_running_loop().time() + limit
