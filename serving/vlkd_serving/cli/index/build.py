"""``vlkd index build``, ``add`` and ``load``: from pictures, texts or vectors to an index."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.cli.index.options import (
    SOME_SKIPPED,
    AsJson,
    Directory,
    Kind,
    Latency,
    Memory,
    Model,
    Precision,
    Recall,
    RootName,
    Threads,
    budget_of,
    print_json,
    print_skipped,
    progress_bar,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vlkd_serving.index import Item
    from vlkd_serving.index.build import Skipped
    from vlkd_serving.index.manifest import IndexManifest
    from vlkd_serving.index.parts import PartSet

__all__ = ["add", "build", "load"]

Images = Annotated[Path | None, typer.Option("--images", help="Folder of pictures, searched with all its sub-folders.")]
Table = Annotated[
    Path | None,
    typer.Option("--csv", "--table", help="Index only what this CSV or Parquet lists: path[,id][,any metadata...]."),
]
Shards = Annotated[list[Path] | None, typer.Option("--shards", help="WebDataset tar file; repeatable.")]
Texts = Annotated[
    Path | None, typer.Option("--texts", help="Index sentences: a file with one a line, or CSV with a column text.")
]


@dataclass(frozen=True)
class _Source:
    items: list[Item]
    root: Path | None
    read: Callable[[Item], bytes] | None = None
    texts: bool = False


def build(
    directory: Directory,
    model: Model,
    images: Images = None,
    table: Table = None,
    shards: Shards = None,
    texts: Texts = None,
    recall: Recall = 0.95,
    memory: Memory = None,
    latency_ms: Latency = None,
    kind: Kind = "auto",
    precision: Precision = "auto",
    root_name: RootName = "index",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Embed pictures (or sentences); what the index held before is replaced, in one step, when all is done.

    Exit code 3: the index is ready, but the pictures listed could not be read.
    """
    from vlkd_serving.index.build import build_index
    from vlkd_serving.loading import load_model

    budget = budget_of(recall, memory, latency_ms, kind, precision)
    source = _source(images, table, shards, texts)
    loaded = load_model(model, threads)
    begin = time.perf_counter()
    with progress_bar("Embedding", len(source.items)) as progress:
        report = build_index(
            directory,
            loaded.student,
            loaded.fingerprint,
            source.items,
            source.root,
            progress=progress,
            budget=budget,
            root_name=root_name,
            read=source.read,
            texts=source.texts,
        )
    _print(report.manifest, report.skipped, time.perf_counter() - begin, as_json)


def add(
    directory: Directory,
    model: Model,
    images: Images = None,
    table: Table = None,
    texts: Texts = None,
    live: Annotated[
        bool, typer.Option("--live", help="Write to the log, for a few additions to a large index, not a generation.")
    ] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Add pictures (or sentences) to an index; one whose id is there already is replaced."""
    from vlkd_serving.index import IndexReader, LiveWriter
    from vlkd_serving.index.build import build_index, embed_pictures, embed_texts, read_from
    from vlkd_serving.loading import load_model

    source = _source(images, table, None, texts)
    loaded = load_model(model, threads)
    begin = time.perf_counter()
    if not live:
        with progress_bar("Embedding", len(source.items)) as progress:
            report = build_index(
                directory,
                loaded.student,
                loaded.fingerprint,
                source.items,
                source.root,
                add=True,
                progress=progress,
                texts=source.texts,
            )
        _print(report.manifest, report.skipped, time.perf_counter() - begin, as_json)
        return
    IndexReader.open(directory, loaded.fingerprint).close()
    with progress_bar("Embedding", len(source.items)) as progress, LiveWriter(directory) as writer:
        if source.texts:
            found = embed_texts(source.items, loaded.student, 32, progress)
        else:
            found = embed_pictures(source.items, loaded.student, read_from(source.root or Path()), 32, progress)
        sequence = writer.put(found.items, found.vectors, source.root) if found.items else None
        items = len(writer.live.current)
    if as_json:
        print_json({"sequence": sequence, "items": items, "skipped": _listed(found.skipped)})
    else:
        typer.echo(f"Change {sequence}: {items} items.")
        print_skipped(found.skipped)
    if found.skipped:
        raise typer.Exit(SOME_SKIPPED)


def load(
    directory: Directory,
    vectors: Annotated[
        Path, typer.Option("--vectors", help="A .npy array of floats, (items, dim), or a folder of `vlkd scale embed`.")
    ],
    ids: Annotated[
        Path | None, typer.Option("--ids", help="One id a line, or .jsonl with id, path and metadata.")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", help="The bundle that made the vectors.")] = None,
    space: Annotated[str, typer.Option("--space", help="Or a name for their space, e.g. that of a teacher.")] = "",
    images: Annotated[Path | None, typer.Option("--images", help="Folder that the paths start from.")] = None,
    recall: Recall = 0.95,
    memory: Memory = None,
    latency_ms: Latency = None,
    kind: Kind = "auto",
    precision: Precision = "auto",
    root_name: RootName = "index",
    as_json: AsJson = False,
) -> None:
    """Make an index of vectors that are there already; they are L2-normalised."""
    import hashlib

    from vlkd_hub.bundle import read_manifest
    from vlkd_serving.index import ImageRoot, IndexWriter
    from vlkd_serving.index.precomputed import load_precomputed

    if (model is None) == (not space):
        raise InvalidInputError("Say whose vectors these are: either --model BUNDLE or --space NAME.")
    budget = budget_of(recall, memory, latency_ms, kind, precision)
    if model is not None:
        fingerprint = read_manifest(model).fingerprint
    else:
        fingerprint = hashlib.sha256(f"space:{space}".encode()).hexdigest()
    begin = time.perf_counter()
    parts = _parts(vectors, ids, fingerprint, model) if vectors.is_dir() else None
    with IndexWriter(directory, fingerprint) as writer:
        root = None if images is None else ImageRoot.of(images, directory, root_name)
        if parts is not None:
            manifest = writer.build_from(parts.items(), parts.blocks(), parts.shape, root, budget, space)
        else:
            items, array = load_precomputed(vectors, ids)
            manifest = writer.build(items, array, root, budget=budget, space=space)
    _print(manifest, (), time.perf_counter() - begin, as_json)


def _parts(folder: Path, ids: Path | None, fingerprint: str, model: Path | None) -> PartSet:
    from vlkd_serving.index.parts import PartSet

    if ids is not None:
        raise InvalidInputError(f"{folder} names its items itself: leave out --ids.")
    parts = PartSet(folder)
    if model is not None and parts.fingerprint != fingerprint:
        raise InvalidInputError(
            f"The vectors in {folder} were made by another model (its embedding space is {parts.fingerprint[:12]}, "
            f"that of {model} is {fingerprint[:12]}): name the bundle that made them."
        )
    return parts


def _source(images: Path | None, table: Path | None, shards: list[Path] | None, texts: Path | None) -> _Source:
    from vlkd_serving.index.scan import scan_folder
    from vlkd_serving.index.shards import ShardReader, scan_shards
    from vlkd_serving.index.tables import scan_table, scan_texts

    if sum(bool(value) for value in (images, shards, texts)) != 1:
        raise InvalidInputError("Give one of --images FOLDER, --shards TAR or --texts FILE.")
    for path in (table, texts, *(shards or ())):
        if path is not None and not path.is_file():
            raise InvalidInputError(f"{path} is not a file.")
    if shards:
        return _Source(scan_shards(shards), None, ShardReader(shards))
    if texts is not None:
        return _Source(scan_texts(texts), None, texts=True)
    assert images is not None  # one of the three was given
    return _Source(scan_table(table, images) if table is not None else scan_folder(images), images)


def _print(manifest: IndexManifest, skipped: tuple[Skipped, ...], seconds: float, as_json: bool) -> None:
    measured = manifest.measured
    if as_json:
        facts: dict[str, object] = {"generation": manifest.generation, "items": manifest.ntotal}
        facts |= {"seconds": round(seconds, 3), "kind": manifest.kind}
        facts |= {"recall": None if measured is None else measured.recall, "skipped": _listed(skipped)}
        print_json(facts)
    else:
        typer.echo(f"Generation {manifest.generation}: {manifest.ntotal} items, {seconds:.1f} s.")
        if measured is not None:
            typer.echo(
                f"{manifest.kind}: recall@10 {measured.recall:.3f} ({measured.source}), {measured.latency_ms:.2f} ms a "
                f"search, {measured.memory_bytes / 1e6:.1f} MB."
            )
        print_skipped(skipped)
    if measured is not None and not measured.met:
        words = f"warning: the budget is not met: recall {measured.recall:.3f}, asked for {measured.target}"
        typer.secho(f"{words}, {measured.latency_ms:.2f} ms a search", fg=typer.colors.YELLOW, err=True)
    if skipped:
        raise typer.Exit(SOME_SKIPPED)


def _listed(skipped: tuple[Skipped, ...]) -> list[dict[str, str]]:
    return [{"id": each.id, "reason": each.reason} for each in skipped]
