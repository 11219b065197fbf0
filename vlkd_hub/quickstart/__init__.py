"""``vlkd quickstart``: the whole path, typed the way a person would type it."""

from __future__ import annotations

from vlkd_hub.quickstart.command import quickstart

__all__ = ["quickstart"]
