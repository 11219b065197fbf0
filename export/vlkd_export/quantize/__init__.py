"""A bundle in fewer bits: the graphs' weights and arithmetic, chosen and checked by what the student then answers."""

from __future__ import annotations
