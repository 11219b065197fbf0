"""The commands ``vlkd index``, ``vlkd serve`` and ``vlkd demo``."""

from __future__ import annotations
