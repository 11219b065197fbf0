"""The engine: ``pre -> core -> post`` for every request, whatever dialect it came in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlkd_serving.admission import Admission
from vlkd_serving.batching import BatchFunction, DynamicBatcher
from vlkd_serving.errors import DeadlineError, OverloadedError, ServingError, UnavailableError
from vlkd_serving.images import PictureLimits, load_picture
from vlkd_serving.index import Hit, LiveIndex
from vlkd_serving.metrics import Metrics
from vlkd_serving.protocol import Student
from vlkd_serving.settings import ServerSettings

__all__ = ["Embedding", "Engine", "GenerationOptions", "Picture"]

Embedding: TypeAlias = NDArray[np.float32]
Picture: TypeAlias = bytes | str
"""An encoded picture: its bytes, or base64 / data URL text."""
GenerationOptions: TypeAlias = tuple[int | None, int | None]
"""(num_beams, max_new_tokens); None keeps the model's own."""
SearchAnswer: TypeAlias = tuple[int, list[Hit]]

In = TypeVar("In")
Out = TypeVar("Out")
Value = TypeVar("Value")
_CANARY_DEADLINE_S = 5.0


class Engine:
    """One student, its batchers and its index.

    Pictures are decoded on a pool of threads (pre), each model part has a batcher that runs on another (core), and the
    index is searched on the first pool again (post).

    Args:
        student: the model; its methods are called from ``settings.core_workers`` threads.
        settings: limits and sizes.
        index: what ``search`` searches, or None.
        metrics: made here if None.
    """

    def __init__(
        self, student: Student, settings: ServerSettings, index: LiveIndex | None = None, metrics: Metrics | None = None
    ) -> None:
        self.settings = settings
        self.index = index
        self.metrics = metrics or Metrics()
        self.state: Literal["loading", "ready", "draining"] = "loading"
        self._admission = Admission(settings.max_inflight, self.metrics)
        self._limits = PictureLimits(
            max_bytes=settings.max_picture_bytes,
            max_pixels=settings.max_picture_pixels,
            max_aspect_ratio=settings.max_aspect_ratio,
        )
        self._pre = ThreadPoolExecutor(settings.pre_workers, thread_name_prefix="vlkd-pre")
        self._core = ThreadPoolExecutor(settings.core_workers, thread_name_prefix="vlkd-core")
        self._slots = asyncio.Semaphore(settings.core_workers)
        self._pictures: DynamicBatcher[Image.Image, Embedding] = self._batcher(
            "image_encoder", lambda images, _: list(student.embed_images(list(images)))
        )
        self._texts: DynamicBatcher[str, Embedding] = self._batcher(
            "text_encoder", lambda texts, _: list(student.embed_texts(list(texts)))
        )
        self._captions = self._batcher("caption", _captioner(student))
        self._answers = self._batcher("vqa", _answerer(student))
        self._poller: asyncio.Task[None] | None = None

    def _batcher(self, part: str, run: BatchFunction[In, Out]) -> DynamicBatcher[In, Out]:
        return DynamicBatcher(
            part,
            run,
            executor=self._core,
            slots=self._slots,
            max_batch=self.settings.max_batch,
            max_delay_s=self.settings.max_delay_s,
            max_queue=self.settings.max_queue,
            metrics=self.metrics,
        )

    async def start(self) -> None:
        """Start the batchers, run the canary once as a warm-up, and follow the index."""
        for batcher in self._batchers():
            batcher.start()
        await self.canary()
        if self.index is not None:
            self._show_index()
            self._poller = asyncio.get_running_loop().create_task(self._follow_index(), name="index-poller")
        self.state = "ready"

    def begin_drain(self) -> None:
        """Turn new work away from now on; what was admitted runs to its end."""
        self.state = "draining"

    async def stop(self) -> None:
        """Wait for what was admitted, at most ``drain_s``, then stop every thread."""
        self.begin_drain()
        until = time.monotonic() + self.settings.drain_s
        while self._admission.inflight and time.monotonic() < until:
            await asyncio.sleep(0.02)
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller
        for batcher in self._batchers():
            await batcher.stop()
        self._pre.shutdown(wait=False, cancel_futures=True)
        self._core.shutdown(wait=False, cancel_futures=True)

    async def embed_texts(self, texts: Sequence[str]) -> list[Embedding]:
        """One (D,) embedding a text."""
        with self._admitted(len(texts)) as deadline:
            return await _all(self._texts.submit(text, deadline) for text in texts)

    async def embed_pictures(self, pictures: Sequence[Picture], param: str = "image") -> list[Embedding]:
        """One (D,) embedding a picture.

        Raises:
            ServingError: a picture that cannot be used; ``param`` names the field.
        """
        with self._admitted(len(pictures)) as deadline:
            return await _all(self._embed_picture(picture, param, deadline) for picture in pictures)

    async def caption(self, picture: Picture, options: GenerationOptions = (None, None)) -> str:
        """Describe one picture."""
        with self._admitted(1) as deadline:
            with self._captions.expect():
                image = await self._decode(picture, "image", deadline)
            return await self._captions.submit(image, deadline, options)

    async def answer(self, picture: Picture, question: str, options: GenerationOptions = (None, None)) -> str:
        """Answer one question about one picture."""
        with self._admitted(1) as deadline:
            with self._answers.expect():
                image = await self._decode(picture, "image", deadline)
            return await self._answers.submit((image, question), deadline, options)

    async def search_text(self, text: str, k: int) -> SearchAnswer:
        """The ``k`` pictures that fit a text best, and the generation of the index that answered."""
        self._require_index()
        with self._admitted(1) as deadline:
            return await self._search(await self._texts.submit(text, deadline), k, deadline)

    async def search_picture(self, picture: Picture, k: int) -> SearchAnswer:
        """The ``k`` pictures most like a picture, and the generation of the index that answered."""
        self._require_index()
        with self._admitted(1) as deadline:
            return await self._search(await self._embed_picture(picture, "image", deadline), k, deadline)

    async def picture_path(self, item_id: str) -> Path | None:
        """Where the picture of an indexed item lies, or None."""
        reader = self._require_index().current
        return await asyncio.get_running_loop().run_in_executor(self._pre, reader.picture_path, item_id)

    async def canary(self) -> None:
        """Send one text and one tiny picture through the real batchers.

        Raises:
            ServingError: a part did not answer in time or failed. A full queue is work, not illness: it raises nothing.
        """
        deadline = asyncio.get_running_loop().time() + _CANARY_DEADLINE_S
        picture = Image.new("RGB", (32, 32), (128, 128, 128))
        try:
            await asyncio.gather(self._texts.submit("a picture", deadline), self._pictures.submit(picture, deadline))
        except OverloadedError:
            return
        except ServingError:
            raise
        except Exception as error:
            raise UnavailableError("The model does not answer.") from error

    @property
    def alive(self) -> bool:
        """Whether every batcher's worker runs."""
        return all(batcher.alive for batcher in self._batchers())

    @contextmanager
    def _admitted(self, items: int) -> Iterator[float]:
        """Hold room for ``items``; yields the deadline on the event loop's clock."""
        if self.state != "ready":
            self.metrics.rejected.labels(reason=self.state).inc()
            raise UnavailableError(f"The server is {self.state}; retry shortly.")
        with self._admission.admit(items):
            yield asyncio.get_running_loop().time() + self.settings.deadline_s

    async def _embed_picture(self, picture: Picture, param: str, deadline: float) -> Embedding:
        with self._pictures.expect():
            image = await self._decode(picture, param, deadline)
        return await self._pictures.submit(image, deadline)

    async def _decode(self, picture: Picture, param: str, deadline: float) -> Image.Image:
        return await self._on_pre(lambda: load_picture(picture, self._limits, param), deadline)

    async def _search(self, query: Embedding, k: int, deadline: float) -> SearchAnswer:
        reader = self._require_index().current
        return reader.manifest.generation, await self._on_pre(lambda: reader.search(query, k), deadline)

    async def _on_pre(self, work: Callable[[], Value], deadline: float) -> Value:
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.get_running_loop().run_in_executor(self._pre, work)
        except TimeoutError:
            self.metrics.rejected.labels(reason="deadline").inc()
            raise DeadlineError("The answer was not ready in time.") from None

    def _require_index(self) -> LiveIndex:
        if self.index is None:
            raise UnavailableError("This server has no index: start it with `vlkd serve --index DIR` to search.")
        return self.index

    def _batchers(self) -> tuple[DynamicBatcher[Any, Any], ...]:
        return self._pictures, self._texts, self._captions, self._answers

    async def _follow_index(self) -> None:
        index = self._require_index()
        while True:
            await asyncio.sleep(self.settings.index_poll_s)
            await asyncio.get_running_loop().run_in_executor(self._pre, index.refresh)
            self._show_index()

    def _show_index(self) -> None:
        index = self._require_index()
        self.metrics.index_generation.set(index.current.manifest.generation)
        self.metrics.index_degraded.set(1 if index.degraded else 0)


def _captioner(student: Student) -> BatchFunction[Image.Image, str]:
    def run(images: Sequence[Image.Image], options: GenerationOptions) -> Sequence[str]:
        num_beams, max_new_tokens = options
        return student.caption(list(images), num_beams=num_beams, max_new_tokens=max_new_tokens)

    return run


def _answerer(student: Student) -> BatchFunction[tuple[Image.Image, str], str]:
    def run(items: Sequence[tuple[Image.Image, str]], options: GenerationOptions) -> Sequence[str]:
        num_beams, max_new_tokens = options
        images, questions = [image for image, _ in items], [question for _, question in items]
        return student.answer(images, questions, num_beams=num_beams, max_new_tokens=max_new_tokens)

    return run


async def _all(work: Iterable[Awaitable[Value]]) -> list[Value]:
    """Every result in order; the first error is raised only after all have ended, so none runs on unadmitted."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
