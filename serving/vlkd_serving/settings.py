"""Every number that shapes the server, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from vlkd_hub.errors import InvalidInputError

__all__ = ["ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Limits and sizes of one server; the defaults suit one small machine."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything else than loopback opens the server to the network: put a proxy in front."""
    port: int = 8000
    """TCP port; 0 takes a free one."""
    model_name: str = "vlkd"
    """Name that answers carry as ``model``."""
    max_batch: int = 16
    """Most items in one run of a model part."""
    max_delay_s: float = 0.004
    """Longest wait for items that are known to be on their way (being decoded); an idle server never waits."""
    max_queue: int = 128
    """Most items that wait in front of one model part."""
    max_inflight: int = 256
    """Most items admitted at once, over all routes; one more gets 429."""
    deadline_s: float = 30.0
    """Longest time from admission to answer; then 504."""
    drain_s: float = 25.0
    """Longest time that requests in flight get after SIGTERM."""
    pre_workers: int = 2
    """Threads that decode pictures and read results' metadata."""
    core_workers: int = 1
    """Batches that run at the same time, over all model parts."""
    max_body_bytes: int = 16 << 20
    """Largest request body."""
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
            "max_queue",
            "max_inflight",
            "pre_workers",
            "core_workers",
            "max_body_bytes",
            "max_inputs",
        )
        for name in (*counts, "max_picture_bytes", "max_picture_pixels", "max_text_chars", "max_k", "max_beams"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("deadline_s", "drain_s", "index_poll_s"):
            if getattr(self, name) <= 0:
                raise InvalidInputError(f"{name} must be more than 0 seconds, got {getattr(self, name)}.")
        if self.max_delay_s < 0:
            raise InvalidInputError(f"max_delay_s must not be negative, got {self.max_delay_s}.")
        if not 0 <= self.port <= 65535:
            raise InvalidInputError(f"port must be between 0 and 65535, got {self.port}.")
