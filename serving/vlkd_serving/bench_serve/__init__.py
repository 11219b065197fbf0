"""``vlkd bench serve``: the server under load, beside the same work without a server."""

from __future__ import annotations
