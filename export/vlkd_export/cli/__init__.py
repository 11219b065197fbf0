"""The verbs ``vlkd export``, ``vlkd verify`` and ``vlkd bench caption``."""

from __future__ import annotations
