"""``vlkd index remove``, ``compact``, ``merge`` and ``split``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlkd_serving.cli.index.options import Directory

__all__ = ["compact", "merge", "remove", "split"]


def remove(
    directory: Directory,
    ids: Annotated[list[str], typer.Argument(help="Ids to take out.")],
    live: Annotated[bool, typer.Option("--live", help="Write to the log instead of a new generation.")] = False,
) -> None:
    """Take items out of an index."""
    from vlkd_serving.index import IndexReader, IndexWriter, LiveWriter

    if live:
        with LiveWriter(directory) as live_writer:
            sequence = live_writer.remove(ids)
            typer.echo(f"Change {sequence}: {len(live_writer.live.current)} items.")
        return
    with IndexWriter(directory, IndexReader.open(directory).manifest.fingerprint) as writer:
        manifest = writer.remove(ids)
    typer.echo(f"Generation {manifest.generation}: {manifest.ntotal} items.")


def compact(directory: Directory) -> None:
    """Write the generation and the log after it into a new generation."""
    from vlkd_serving.index import LiveWriter

    with LiveWriter(directory) as writer:
        manifest = writer.compact()
    typer.echo(f"Generation {manifest.generation}: {manifest.ntotal} items.")


def merge(
    target: Annotated[Path, typer.Argument(help="Folder of the new index.")],
    sources: Annotated[list[Path], typer.Argument(help="Indexes of one model, without a common id.")],
) -> None:
    """Write the items of several indexes into a new one."""
    from vlkd_serving.index.reshape import merge as merge_indexes

    manifest = merge_indexes(target, sources)
    typer.echo(f"Generation {manifest.generation}: {manifest.ntotal} items.")


def split(
    source: Annotated[Path, typer.Argument(help="The index; it stays as it is.")],
    targets: Annotated[list[Path], typer.Argument(help="Folders of the new indexes, two or more.")],
    where: Annotated[
        str | None, typer.Option("--where", help="What fits this filter goes into the first, the rest into the second.")
    ] = None,
) -> None:
    """Write the items of an index into several new ones, by a hash of the id or by a filter."""
    from vlkd_serving.index.reshape import split as split_index

    for target, manifest in zip(targets, split_index(source, targets, where), strict=True):
        typer.echo(f"{target}: {manifest.ntotal} items.")
