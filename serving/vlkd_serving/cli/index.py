"""``vlkd index``: make, change, search and describe an index of pictures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vlkd_hub.errors import InvalidInputError

if TYPE_CHECKING:
    from vlkd_serving.index import Hit
    from vlkd_serving.index.build import BuildReport

__all__ = ["SOME_SKIPPED", "app"]

SOME_SKIPPED = 3
"""Exit code of a build that is committed but left pictures out."""
_MOST_LISTED = 20

app = typer.Typer(name="index", help="Build and search an index of pictures.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="The index folder.")]
Model = Annotated[Path, typer.Option("--model", help="A bundle that `vlkd export` wrote.")]
Images = Annotated[Path, typer.Option("--images", help="Folder of pictures, searched with all its sub-folders.")]
CsvTable = Annotated[
    Path | None, typer.Option("--csv", help="Index only what this file lists: path[,id][,any metadata...].")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one inference.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def build(
    directory: Directory,
    model: Model,
    images: Images,
    csv: CsvTable = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Embed a folder of pictures; what the index held before is replaced, in one step, when all is done.

    Exit code 3: the index is ready, but the pictures listed could not be read.
    """
    _build(directory, model, images, csv, threads, as_json, add=False)


@app.command()
def add(
    directory: Directory,
    model: Model,
    images: Images,
    csv: CsvTable = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Add pictures to an index; one whose id is there already is replaced."""
    _build(directory, model, images, csv, threads, as_json, add=True)


@app.command()
def remove(directory: Directory, ids: Annotated[list[str], typer.Argument(help="Ids to take out.")]) -> None:
    """Take items out of an index."""
    from vlkd_serving.index import IndexReader, IndexWriter

    with IndexWriter(directory, IndexReader.open(directory).manifest.fingerprint) as writer:
        manifest = writer.remove(ids)
    typer.echo(f"Generation {manifest.generation}: {manifest.ntotal} items.")


@app.command()
def search(
    directory: Directory,
    model: Model,
    text: Annotated[str | None, typer.Option("--text", help="What to look for.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="A picture to look for others like it.")] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many results.")] = 10,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Find the pictures that fit a text, or that look like another picture."""
    from vlkd_serving.images import PictureLimits, decode_picture
    from vlkd_serving.index import IndexReader
    from vlkd_serving.loading import load_model
    from vlkd_serving.texts import require_text

    if (text is None) == (image is None):
        raise InvalidInputError("Give either --text or --image.")
    if image is not None and not image.is_file():
        raise InvalidInputError(f"{image} is not a file.")
    loaded = load_model(model, threads)
    reader = IndexReader.open(directory, loaded.fingerprint)
    if reader.degraded:
        typer.secho(f"warning: {reader.degraded}", fg=typer.colors.YELLOW, err=True)
    begin = time.perf_counter()
    if text is not None:
        query = loaded.student.embed_texts([require_text(text, "--text", 1000)])[0]
    elif image is not None:
        query = loaded.student.embed_images([decode_picture(image.read_bytes(), PictureLimits())])[0]
    hits = reader.search(query, k)
    _print_hits(hits, (time.perf_counter() - begin) * 1000, as_json)


@app.command()
def stats(directory: Directory, as_json: AsJson = False) -> None:
    """Describe an index; every file is verified on the way."""
    from vlkd_serving.index import IndexReader

    facts = IndexReader.open(directory).stats()
    if as_json:
        _print_json(facts)
        return
    table = Table(show_header=False, title=str(directory))
    for name, value in facts.items():
        table.add_row(name, "no" if name == "degraded" and value is None else str(value))
    Console().print(table)


def _build(
    directory: Path, model: Path, images: Path, table: Path | None, threads: int | None, as_json: bool, *, add: bool
) -> None:
    from vlkd_serving.index.build import build_index
    from vlkd_serving.index.scan import scan_csv, scan_folder
    from vlkd_serving.loading import load_model

    if table is not None and not table.is_file():
        raise InvalidInputError(f"{table} is not a file.")
    items = scan_csv(table, images) if table is not None else scan_folder(images)
    loaded = load_model(model, threads)
    columns = (TextColumn("Embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    begin = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Embedding", total=len(items))
        report = build_index(
            directory,
            loaded.student,
            loaded.fingerprint,
            items,
            images,
            add=add,
            progress=lambda done: progress.advance(task, done),
        )
    _print_report(report, time.perf_counter() - begin, as_json)
    if report.skipped:
        raise typer.Exit(SOME_SKIPPED)


def _print_report(report: BuildReport, seconds: float, as_json: bool) -> None:
    manifest = report.manifest
    if as_json:
        _print_json(
            {
                "generation": manifest.generation,
                "items": manifest.ntotal,
                "seconds": round(seconds, 3),
                "skipped": [{"id": skipped.id, "reason": skipped.reason} for skipped in report.skipped],
            }
        )
        return
    typer.echo(f"Generation {manifest.generation}: {manifest.ntotal} items, {seconds:.1f} s.")
    for skipped in report.skipped[:_MOST_LISTED]:
        typer.secho(f"skipped {skipped.id}: {skipped.reason}", fg=typer.colors.YELLOW, err=True)
    if len(report.skipped) > _MOST_LISTED:
        typer.secho(f"... and {len(report.skipped) - _MOST_LISTED} more.", fg=typer.colors.YELLOW, err=True)


def _print_hits(hits: list[Hit], latency_ms: float, as_json: bool) -> None:
    if as_json:
        results = [{"id": hit.item.id, "score": round(hit.score, 6), "metadata": hit.item.metadata} for hit in hits]
        _print_json({"results": results, "latency_ms": round(latency_ms, 3)})
        return
    table = Table("score", "id", "said of it", caption=f"{latency_ms:.1f} ms")
    for hit in hits:
        captions = hit.item.metadata.get("captions") or [hit.item.metadata.get("class", "")]
        table.add_row(f"{hit.score:.3f}", hit.item.id, str(captions[0]))
    Console().print(table)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
