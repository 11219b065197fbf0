"""The engine, where its models or its index are in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlkd_serving.engine import Engine
from vlkd_serving.errors import UnavailableError
from vlkd_serving.model_pool import ModelSource
from vlkd_serving.protocol import Floats, Parts
from vlkd_serving.questions import SearchAnswer, SearchQuestion
from vlkd_serving.scale.calls import ask
from vlkd_serving.scale.gather import ShardAnswer, merge_hits
from vlkd_serving.scale.remote_model import RemotelyEncoded, RemoteModel
from vlkd_serving.served_model import ServedModel, gather_all
from vlkd_serving.settings import ServerSettings

__all__ = ["DecoderEngine", "IngressEngine"]


class DecoderEngine(Engine):
    """Writes here; pictures and prompts are encoded elsewhere.

    Args:
        source: the model, opened with its decoder graphs only.
        settings: limits and sizes.
        encoder: handle of the encoders.
    """

    def __init__(self, source: ModelSource, settings: ServerSettings, encoder: Any) -> None:
        super().__init__([source], settings)
        self._encoder = encoder

    def _serve(self, name: str, parts: Parts) -> ServedModel:
        stage = {"pre": self._pre, "core": self._core, "slots": self._slots, "metrics": self.metrics}
        return RemotelyEncoded(name, parts, self.settings, encoder=self._encoder, **stage)


class IngressEngine(Engine):
    """Admits, checks and answers; every model part and every shard of the index is elsewhere.

    Args:
        source: the model, opened without a graph: its tokenizer and its manifest.
        settings: limits and sizes.
        encoder: handle of the encoders.
        decoder: handle of the decoders; None for a model that only embeds.
        shards: a handle for each shard of the index; none: there is nothing to search.
        matches_words: the encoders have the graphs for it open.
    """

    def __init__(
        self,
        source: ModelSource,
        settings: ServerSettings,
        encoder: Any,
        decoder: Any | None,
        shards: Sequence[Any],
        *,
        matches_words: bool = False,
    ) -> None:
        super().__init__([source], settings)
        self._encoder, self._decoder, self._shards = encoder, decoder, shards
        self._matches_words = matches_words
        self._problems: list[str] = []

    @property
    def degraded(self) -> str | None:
        """Why a shard was not in its newest state when it was searched last, or None."""
        return self._problems[0] if self._problems else None

    async def picture_path(self, item_id: str) -> Path | None:
        """Where the picture of an indexed item lies, if this machine sees the file."""
        self._require_search()
        deadline = self._deadline()
        paths: list[str | None] = await gather_all(
            *(ask(shard.picture_path, deadline, item_id) for shard in self._shards)
        )
        found = next((Path(path) for path in paths if path is not None), None)
        return found if found is not None and found.is_file() else None

    def _serve(self, name: str, parts: Parts) -> ServedModel:
        stage: dict[str, Any] = {"pre": self._pre, "core": self._core, "slots": self._slots, "metrics": self.metrics}
        stage |= {"encoder": self._encoder, "decoder": self._decoder, "matches_words": self._matches_words}
        return RemoteModel(name, parts, self.settings, **stage)

    def _require_search(self) -> None:
        if not self._shards:
            raise UnavailableError("This server has no index: start it with shards to search.")

    async def _find(self, query: Floats, question: SearchQuestion, deadline: float) -> SearchAnswer:
        """Ask every shard and merge; a shard that cannot answer fails the search: what it holds is not left out.

        The generation is the sum over the shards: it rises whenever one of them commits.
        """
        wanted = question.k + question.offset
        answers: list[ShardAnswer] = await gather_all(
            *(ask(shard.search, deadline, query, wanted, question.where) for shard in self._shards)
        )
        self._problems = [each.degraded for each in answers if each.degraded is not None]
        hits = merge_hits([each.hits for each in answers], question.k, question.offset)
        return sum(each.generation for each in answers), hits
