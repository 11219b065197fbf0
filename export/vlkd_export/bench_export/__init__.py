"""``vlkd bench export``: the ways to run a tower, side by side in one run."""

from __future__ import annotations
