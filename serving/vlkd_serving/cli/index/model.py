"""``vlkd index migrate`` and ``declare``: an index and another model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlkd_serving.cli.index.options import (
    SOME_SKIPPED,
    Directory,
    Model,
    RootName,
    Threads,
    print_skipped,
    progress_bar,
)

__all__ = ["declare", "migrate"]


def migrate(
    directory: Directory,
    model: Annotated[
        Path | None, typer.Option("--model", help="Bundle of the new model; none: only the format.")
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Where the pictures lie now.")] = None,
    root_name: RootName = "index",
    threads: Threads = None,
) -> None:
    """Bring an index to the present format, or embed its items again with another model.

    The old content serves until the commit. Stopped early, the same command goes on where it stopped.
    """
    from vlkd_serving.index import IndexReader
    from vlkd_serving.index.migrate import migrate_format, migrate_model
    from vlkd_serving.loading import load_model

    if model is None:
        manifest = migrate_format(directory, root_name)
        typer.echo(f"Generation {manifest.generation}: {manifest.ntotal} items, pictures under {manifest.image_root}.")
        return
    loaded = load_model(model, threads)
    with progress_bar("Embedding", len(IndexReader.open(directory))) as progress:
        report = migrate_model(directory, loaded.student, loaded.fingerprint, images=images, progress=progress)
    typer.echo(
        f"Generation {report.manifest.generation}: {report.manifest.ntotal} items, {report.resumed} of them embedded "
        "by an earlier run."
    )
    print_skipped(report.skipped)
    if report.skipped:
        raise typer.Exit(SOME_SKIPPED)


def declare(
    directory: Directory,
    model: Model,
    images: Annotated[Path | None, typer.Option("--images", help="Where the pictures lie now.")] = None,
    threads: Threads = None,
) -> None:
    """Allow a model to query an index that another one built, such as a student its teacher's, after a measurement.

    A sample of the index's own pictures is embedded with the model and must find itself. From then on
    `vlkd index search --teacher-index` accepts the pair.
    """
    from vlkd_serving.index.declare import declare_compatible
    from vlkd_serving.loading import load_model

    loaded = load_model(model, threads)
    agreement = declare_compatible(directory, loaded.student, loaded.fingerprint, images)
    typer.echo(
        f"{agreement.pictures} pictures: mean cosine {agreement.cosine:.4f}, {agreement.recall_at_1:.1%} find "
        "themselves first. Declared compatible."
    )
