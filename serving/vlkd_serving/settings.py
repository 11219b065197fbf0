"""Every number that shapes the server, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlkd_hub.errors import InvalidInputError

__all__ = ["ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Limits and sizes of one server; the defaults suit one small machine."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything else than loopback opens the server to the network: put a proxy in front."""
    port: int = 8000
    """TCP port; 0 takes a free one."""
    keys_file: str | None = None
    """API keys, made by ``vlkd keys add``; None lets everyone in who can reach the address."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call from a browser, for example ``https://app.example.org``; none by default."""
    rate_per_s: float = 0.0
    """Requests a second for each key (without keys: each address); 0 sets no limit."""
    rate_burst: int = 20
    """Requests that one asker may send at once after a pause."""
    fetch_hosts: tuple[str, ...] = ()
    """Hosts from which pictures are fetched by URL; empty: no URL is ever fetched."""
    fetch_timeout_s: float = 5.0
    """Longest time for one picture, redirects included."""
    fetch_workers: int = 4
    """Pictures fetched at the same time; others that come as URLs wait for these."""
    log_format: Literal["text", "json"] = "text"
    """``json`` writes one object a line, with the request id."""
    max_batch: int = 16
    """Most items in one run of a model part."""
    enough: int = 4
    """A run of an encoder does not wait for more items than these: from here on each costs about the same."""
    max_delay_s: float = 0.004
    """Longest wait for items that are known to be on their way (being decoded); an idle server never waits."""
    max_texts: int = 32
    """Most texts in one group that is written together; others of the same settings join it while there is room."""
    max_groups: int = 3
    """Groups of texts that are written at the same time, in turns: greedy ones, some of each number of beams."""
    join_delay_s: float = 0.2
    """Longest wait of a text for company while others are written: a step for a few costs nearly that for many."""
    max_queue: int = 256
    """Most items that wait in front of one model part."""
    max_inflight: int = 64
    """Most items admitted at once, over all routes; one more gets 429. About twice what keeps the processors busy:
    more would only wait longer, less would turn bursts away."""
    deadline_s: float = 30.0
    """Longest time from admission to answer; then 504."""
    filter_s: float = 10.0
    """Longest time that a search's filter may take to be applied; then 422."""
    drain_s: float = 25.0
    """Longest time that requests in flight get after SIGTERM."""
    pre_workers: int = 2
    """Threads that decode pictures and read results' metadata."""
    core_workers: int = 2
    """Batches that run at the same time, over all model parts: one alone leaves processors idle between operators."""
    picture_cache_bytes: int = 64 << 20
    """Encodings kept of the pictures seen last: caption, question and search of one picture encode it once; 0: none."""
    idle_unload_s: float = 0.0
    """A model that nobody used for so long is unloaded, and loaded again when it is asked for; 0 keeps it."""
    canary_s: float = 5.0
    """Longest time that the readiness check may take."""
    max_body_bytes: int = 16 << 20
    """Largest request body."""
    max_bodies_bytes: int = 256 << 20
    """Most bytes of the bodies of all open requests; one more gets 429. A body must come within ``deadline_s``."""
    max_picture_bytes: int = 10 << 20
    """Largest encoded picture."""
    max_picture_pixels: int = 25_000_000
    """Largest width x height, read from the header before anything is decoded."""
    max_aspect_ratio: float = 50.0
    """Largest long side / short side: resizing the short side to the model's size multiplies the long one as well."""
    max_text_chars: int = 1000
    """Longest query or question."""
    max_inputs: int = 64
    """Most inputs of one embeddings request."""
    max_k: int = 100
    """Most search results."""
    max_beams: int = 8
    """Widest beam search a request may ask for."""
    max_new_tokens: int = 64
    """Longest answer a request may ask for."""
    index_poll_s: float = 2.0
    """How often to look for a newly committed generation of the index."""

    def __post_init__(self) -> None:
        counts = (
            "max_batch",
            "enough",
            "max_queue",
            "max_texts",
            "max_groups",
            "max_inflight",
            "pre_workers",
            "fetch_workers",
            "core_workers",
            "max_body_bytes",
            "max_bodies_bytes",
            "max_inputs",
            "rate_burst",
        )
        for name in (*counts, "max_picture_bytes", "max_picture_pixels", "max_text_chars", "max_k", "max_beams"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("deadline_s", "filter_s", "drain_s", "index_poll_s", "canary_s", "fetch_timeout_s"):
            if getattr(self, name) <= 0:
                raise InvalidInputError(f"{name} must be more than 0 seconds, got {getattr(self, name)}.")
        for name in ("max_delay_s", "join_delay_s", "picture_cache_bytes", "idle_unload_s", "rate_per_s"):
            if getattr(self, name) < 0:
                raise InvalidInputError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not 0 <= self.port <= 65535:
            raise InvalidInputError(f"port must be between 0 and 65535, got {self.port}.")
