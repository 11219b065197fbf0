"""The browser demo: a page with a tab a question, over a running server or in process."""

from __future__ import annotations
