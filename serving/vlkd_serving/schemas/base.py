"""What every schema builds on."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MODEL", "PICTURE", "PIXEL", "Answer", "Request"]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
"""A picture of one pixel, PNG, base64: an example that works."""
PICTURE = "JPEG, PNG or WebP, as base64 or as a data URL."
MODEL: Any = Field(None, description="Name of a model of this server; by default the first.")


class Request(BaseModel):
    """Unknown fields and values of another type are refused, not passed over."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(BaseModel):
    """A body that goes out."""
