"""Several models by name: loaded when they are needed, unloaded when they are not, loaded anew when they fail."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from vlkd_hub.errors import VlkdError
from vlkd_serving.errors import NotFoundError, UnavailableError
from vlkd_serving.memory import collector_passes_over, release_free_memory
from vlkd_serving.metrics import Metrics
from vlkd_serving.protocol import Parts
from vlkd_serving.served_model import ServedModel
from vlkd_serving.settings import ServerSettings

__all__ = ["ModelPool", "ModelSource"]

logger = logging.getLogger("vlkd.serving")

ANY_NAMES = ("default", "dummy")
"""Mean the default model: ``huggingface_hub`` says ``dummy`` when it was given an address instead of a model."""
RETRY_S = 2.0
"""After a load that failed, requests are turned away this long before it is tried again."""


@dataclass(frozen=True)
class ModelSource:
    """A model that can be loaded.

    Args:
        name: by which requests ask for it.
        load: reads it from disk; called on a thread, again after each unload.
        fingerprint: of its embedding space, where that is known before it is loaded; else that of the first load
            counts. A bundle of another one, put in its place on disk, is not served.
    """

    name: str
    load: Callable[[], Parts]
    fingerprint: str | None = None


@dataclass(eq=False)
class _Place:
    source: ModelSource
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    model: ServedModel | None = None
    fingerprint: str | None = None
    users: int = 0
    used_at: float = 0.0
    idle: bool = False
    """Unloaded because nobody used it; nothing failed since."""
    failed_at: float | None = None
    problem: str = ""


class ModelPool:
    """Holds the models of one server.

    Args:
        sources: the first is the default.
        settings: ``idle_unload_s``.
        serve: puts loaded parts in service under a name.
        metrics: of the server.
    """

    def __init__(
        self,
        sources: Sequence[ModelSource],
        settings: ServerSettings,
        serve: Callable[[str, Parts], ServedModel],
        metrics: Metrics,
    ) -> None:
        self._places = {source.name: _Place(source, fingerprint=source.fingerprint) for source in sources}
        self._settings = settings
        self._serve = serve
        self._metrics = metrics

    @property
    def names(self) -> list[str]:
        """Names of the models, the default first."""
        return list(self._places)

    @property
    def alive(self) -> bool:
        """Whether the batchers of every loaded model work."""
        return all(place.model is None or place.model.alive for place in self._places.values())

    def is_loaded(self, name: str) -> bool:
        """Whether a model is in memory."""
        return self._places[name].model is not None

    def check_name(self, name: str | None) -> str:
        """The name itself, or the default's for None and for what clients send that must name something.

        Raises:
            NotFoundError: there is no such model.
        """
        if name is None or (name in ANY_NAMES and name not in self._places):
            return self.names[0]
        if name not in self._places:
            raise NotFoundError(f"There is no such model; known are: {', '.join(self.names)}.", "model")
        return name

    def detokenizer(self, name: str) -> Callable[[list[int]], str]:
        """The function that turns tokens into words, of a model that is loaded.

        Raises:
            UnavailableError: it is not.
        """
        model = self._places[name].model
        if model is None:
            raise UnavailableError(f"The model '{name}' is not loaded; retry later.")
        return model.parts.detokenize

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[ServedModel]:
        """A loaded model, which stays loaded while the body runs.

        Raises:
            NotFoundError: there is no such model.
            UnavailableError: it cannot be loaded.
        """
        place = self._places[self.check_name(name)]
        try:
            async with self._hold(place) as model:
                yield model
        finally:
            place.used_at = time.monotonic()

    @asynccontextmanager
    async def check(self, name: str) -> AsyncIterator[ServedModel | None]:
        """As :meth:`use`, for looking after a model: that is no use of it, and does not put off its unloading.

        None for a model that is unloaded because it is idle: it is not loaded for a check.
        """
        place = self._places[name]
        if place.idle:
            yield None
            return
        async with self._hold(place) as model:
            yield model

    async def discard(self, name: str, failed: ServedModel) -> None:
        """Drop a model that fails, unless another took its place already; the next request loads it anew from disk."""
        place = self._places[name]
        if place.model is failed:
            logger.warning("model %s failed its check and will be loaded again", name)
            await self._drop(place)

    async def unload_idle(self) -> None:
        """Unload what nobody has used for ``idle_unload_s``; returns at once where that is 0."""
        limit = self._settings.idle_unload_s
        for place in self._places.values():
            if limit and place.model is not None and not place.users and time.monotonic() - place.used_at >= limit:
                logger.info("model %s is idle and is unloaded", place.source.name)
                place.idle = True
                await self._drop(place)

    async def close(self) -> None:
        """Stop and drop every model."""
        for place in self._places.values():
            await self._drop(place)

    @asynccontextmanager
    async def _hold(self, place: _Place) -> AsyncIterator[ServedModel]:
        """The model of a place, loaded if need be, which is not idle meanwhile."""
        place.users += 1
        try:
            yield place.model if place.model is not None else await self._load(place)
        finally:
            place.users -= 1

    async def _load(self, place: _Place) -> ServedModel:
        async with place.lock:
            if place.model is not None:
                return place.model
            place.idle = False
            if place.failed_at is not None and time.monotonic() - place.failed_at < RETRY_S:
                raise UnavailableError(place.problem)
            name = place.source.name
            parts = await self._read(place)
            place.failed_at = None
            await asyncio.to_thread(release_free_memory)
            model = self._serve(name, parts)
            model.start()
            place.model, place.used_at = model, time.monotonic()
            self._metrics.models_loaded.labels(model=name).set(1)
            return model

    async def _read(self, place: _Place) -> Parts:
        """The parts of a model from disk, of the embedding space that this server began with."""
        name = place.source.name
        try:
            parts = await asyncio.to_thread(place.source.load)
        except (VlkdError, OSError) as error:
            logger.error("model %s cannot be loaded", name, exc_info=error)
            raise self._failure(place, f"The model '{name}' cannot be loaded; retry later.") from error
        if place.fingerprint not in (None, parts.fingerprint):
            logger.error("model %s on disk is of the space %s, not %s", name, parts.fingerprint, place.fingerprint)
            raise self._failure(
                place,
                f"The model '{name}' was replaced on disk by one of another embedding space, which this server would "
                "mix with what it gave out before: restart the server to serve it.",
            )
        place.fingerprint = parts.fingerprint
        return parts

    def _failure(self, place: _Place, problem: str) -> UnavailableError:
        """Note that a load failed, and what to tell those who ask."""
        place.failed_at, place.problem = time.monotonic(), problem
        return UnavailableError(problem)

    async def _drop(self, place: _Place) -> None:
        model, place.model = place.model, None
        if model is None:
            return
        self._metrics.models_loaded.labels(model=place.source.name).set(0)
        await model.stop()
        del model
        if any(each.model is not None for each in self._places.values()):
            collector_passes_over()  # stopping one let the collector see the others again
