"""``vlkd index``: make, change, search and describe an index."""

from __future__ import annotations

import typer

from vlkd_serving.cli.index.build import add, build, load
from vlkd_serving.cli.index.change import compact, merge, remove, split
from vlkd_serving.cli.index.inspect import duplicates, stats
from vlkd_serving.cli.index.model import declare, migrate
from vlkd_serving.cli.index.options import SOME_SKIPPED
from vlkd_serving.cli.index.search import search

__all__ = ["SOME_SKIPPED", "app"]

app = typer.Typer(name="index", help="Build and search an index of pictures.", no_args_is_help=True)
for command in (build, add, load, remove, search, stats, duplicates, compact, merge, split, migrate, declare):
    app.command()(command)
