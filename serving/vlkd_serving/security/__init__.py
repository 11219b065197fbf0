"""Who may ask, how often, and what may be fetched."""

from __future__ import annotations
