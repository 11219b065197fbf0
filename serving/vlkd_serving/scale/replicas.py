"""What runs in the replicas. Plain classes: Ray Serve makes deployments of them in :mod:`vlkd_serving.scale.app`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlkd_hub.errors import VlkdError
from vlkd_hub.runtime.matching import WordMatch
from vlkd_hub.runtime.stepwise import Written
from vlkd_serving.app import create_app
from vlkd_serving.background import follow_index
from vlkd_serving.context import RequestContext
from vlkd_serving.engine import Engine
from vlkd_serving.errors import UnavailableError
from vlkd_serving.index import LiveIndex
from vlkd_serving.loading import MATCHING, model_source
from vlkd_serving.metrics import Metrics
from vlkd_serving.pre import Picture, PrePool
from vlkd_serving.protocol import EncodedPicture, EncodedText, Floats
from vlkd_serving.scale.calls import answer, arrive
from vlkd_serving.scale.engines import DecoderEngine, IngressEngine
from vlkd_serving.scale.gather import ShardAnswer
from vlkd_serving.scale.settings import ScaleSettings

__all__ = ["DecoderReplica", "EncoderReplica", "Ingress", "ShardReplica"]

_ENCODERS = ("image_encoder", "text_encoder")
_DECODERS = ("cross_attention", "decoder")
_NO_STATES: Floats = np.empty((0, 0), np.float32)


class EncoderReplica:
    """Decodes and encodes pictures, tokenises and encodes texts, in batches.

    Args:
        settings: of the whole application.
    """

    def __init__(self, settings: ScaleSettings) -> None:
        graphs = (*_ENCODERS, *MATCHING) if settings.match_words else _ENCODERS
        source = model_source(settings.name, Path(settings.model), settings.threads, at_once=True, graphs=graphs)
        self._engine = Engine([source], settings.server)

    async def encode_picture(
        self, context: RequestContext, picture: Picture, param: str, with_states: bool
    ) -> EncodedPicture | VlkdError:
        """One picture; without states the answer is a kilobyte instead of hundreds."""
        deadline = arrive(context)
        async with self._engine.models.use(None) as model:
            found = await answer(model.encode_picture(picture, param, deadline))
        return found if with_states or isinstance(found, VlkdError) else replace(found, states=_NO_STATES)

    async def encode_texts(
        self, context: RequestContext, texts: Sequence[str], with_states: bool
    ) -> list[EncodedText] | VlkdError:
        """Some texts, one answer each."""
        deadline = arrive(context)
        async with self._engine.models.use(None) as model:
            found = await answer(model.encode_texts(texts, deadline))
        if with_states or isinstance(found, VlkdError):
            return found
        return [replace(each, states=_NO_STATES) for each in found]

    async def match(self, context: RequestContext, picture: Picture, text: str) -> WordMatch | VlkdError:
        """The words of a text in a picture."""
        deadline = arrive(context)
        async with self._engine.models.use(None) as model:
            return await answer(model.match(picture, text, deadline))

    async def check_health(self) -> None:
        """Serve asks and replaces a replica that raises; being busy is no reason to."""
        _require_alive(self._engine)


class DecoderReplica:
    """Writes captions and answers, continuously batched.

    Args:
        settings: of the whole application.
        encoder: handle of the encoders.
    """

    def __init__(self, settings: ScaleSettings, encoder: Any) -> None:
        source = model_source(settings.name, Path(settings.model), settings.threads, at_once=True, graphs=_DECODERS)
        self._engine = DecoderEngine(source, settings.server, encoder)

    async def write(
        self,
        context: RequestContext,
        task: str,
        picture: Picture,
        question: str | None,
        options: tuple[int | None, int | None],
    ) -> tuple[Written, int] | VlkdError:
        """A text, and the number of tokens of its prompt. What the encoders say comes straight from them."""
        deadline = arrive(context)
        async with self._engine.models.use(None) as model:
            return await answer(model.write(task, picture, question, options, deadline))

    async def check_health(self) -> None:
        """As :meth:`EncoderReplica.check_health`; the encoders have their own."""
        _require_alive(self._engine)


class ShardReplica:
    """Searches one shard of the index, and follows what its writer commits.

    Args:
        settings: of the whole application.
        directory: the shard's index folder.
        fingerprint: of the model that queries it.
    """

    def __init__(self, settings: ScaleSettings, directory: str, fingerprint: str) -> None:
        self._index = LiveIndex(directory, fingerprint)
        self._metrics = Metrics()
        self._pool = PrePool(settings.server, self._metrics)
        self._poll_s = settings.server.index_poll_s
        self._follower: asyncio.Task[None] | None = None

    async def search(
        self, context: RequestContext, query: Floats, k: int, where: str | None
    ) -> ShardAnswer | VlkdError:
        """The ``k`` best of this shard."""
        deadline = arrive(context)
        self._follow()
        reader = self._index.current
        hits = await answer(self._pool.search(reader, query, k, deadline, where=where))
        if isinstance(hits, VlkdError):
            return hits
        return ShardAnswer(reader.manifest.generation, self._index.degraded, hits)

    async def picture_path(self, context: RequestContext, item_id: str) -> str | VlkdError | None:
        """Where the picture of an item lies; None where it is not in this shard."""
        deadline = arrive(context)
        reader = self._index.current
        path = await answer(self._pool.run(lambda: reader.picture_path(item_id), deadline))
        return str(path) if isinstance(path, Path) else path

    async def check_health(self) -> None:
        """Serve asks; also starts to follow the index."""
        self._follow()

    def _follow(self) -> None:
        if self._follower is None or self._follower.done():
            follow = follow_index(self._index, self._metrics, self._poll_s)
            self._follower = asyncio.get_running_loop().create_task(follow, name="index-poller")


class Ingress:
    """The HTTP application of ``vlkd serve``, with an engine whose parts are the other replicas.

    Args:
        settings: of the whole application.
        encoder: handle of the encoders.
        decoder: handle of the decoders; None for a model that only embeds.
        shards: a handle for each shard.
    """

    def __init__(self, settings: ScaleSettings, encoder: Any, decoder: Any | None, shards: Sequence[Any]) -> None:
        self._settings = settings
        source = model_source(settings.name, Path(settings.model), at_once=True, graphs=())
        self._engine = IngressEngine(
            source, settings.server, encoder, decoder, shards, matches_words=settings.match_words
        )

    def __serve_build_asgi_app__(self) -> Any:  # the name that `ray.serve.ingress()` looks for
        return create_app(self._settings.server, self._engine)


def _require_alive(engine: Engine) -> None:
    if not engine.alive:
        raise UnavailableError("A worker has stopped.")
