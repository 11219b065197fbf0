"""The browser demo: a page with three tabs, over a running server or in process."""

from __future__ import annotations
