"""``vlkd index stats`` and ``duplicates``."""

from __future__ import annotations

from typing import Annotated

import typer

from vlkd_serving.cli.index.options import AsJson, Directory, print_json, progress_bar

__all__ = ["duplicates", "stats"]

_MOST_SHOWN = 50


def stats(directory: Directory, as_json: AsJson = False) -> None:
    """Describe an index; every file is verified on the way."""
    from rich.console import Console
    from rich.table import Table

    from vlkd_serving.index import IndexReader

    facts = IndexReader.open(directory).stats()
    if as_json:
        print_json(facts)
        return
    table = Table(show_header=False, title=str(directory))
    for name, value in facts.items():
        table.add_row(name, "no" if name == "degraded" and value is None else str(value))
    Console().print(table)


def duplicates(
    directory: Directory,
    threshold: Annotated[float, typer.Option("--threshold", help="Cosine from which two items are the same.")] = 0.98,
    as_json: AsJson = False,
) -> None:
    """List groups of items that are nearly the same; nothing is removed."""
    from vlkd_serving.index import IndexReader
    from vlkd_serving.index.duplicates import find_duplicates

    reader = IndexReader.open(directory)
    with progress_bar("Comparing", len(reader)) as progress:
        groups = find_duplicates(reader, threshold, progress)
    if as_json:
        print_json([{"ids": list(group.ids), "lowest": round(group.lowest, 6)} for group in groups])
        return
    for group in groups[:_MOST_SHOWN]:
        typer.echo(f"{group.lowest:.4f}  {'  '.join(group.ids)}")
    more = sum(len(group.ids) - 1 for group in groups)
    typer.echo(f"{len(groups)} groups; {more} of {len(reader)} items could go.")
