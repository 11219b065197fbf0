"""Options of a Triton repository."""

from __future__ import annotations

from dataclasses import dataclass

from vlkd_hub.errors import InvalidInputError

__all__ = ["TritonSettings"]

DEVICES = ("cpu", "gpu")


@dataclass(frozen=True, kw_only=True)
class TritonSettings:
    """What ``vlkd export --to triton`` was asked for."""

    batch: int = 8
    """Largest number of rows in one run of a graph."""
    instances: int = 1
    """Copies of each graph that run side by side."""
    device: str = "cpu"
    """``cpu`` or ``gpu``: where the graphs run. Decoding and tokenizing always run on the CPU."""
    queue_delay_us: int = 2000
    """Microseconds that a request may wait for others to share a run with."""

    def __post_init__(self) -> None:
        for name in ("batch", "instances"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be 1 or more, got {getattr(self, name)}.")
        if self.queue_delay_us < 0:
            raise InvalidInputError(f"queue_delay_us must be 0 or more, got {self.queue_delay_us}.")
        if self.device not in DEVICES:
            raise InvalidInputError(f"Unknown device {self.device!r}. Choose one of {', '.join(DEVICES)}.")
