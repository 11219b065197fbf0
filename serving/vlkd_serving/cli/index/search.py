"""``vlkd index search``: by text, by picture, by both."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.cli.index.options import AsJson, Directory, Model, Threads, print_json

if TYPE_CHECKING:
    from vlkd_serving.index import Hit

__all__ = ["search"]


def search(
    directory: Directory,
    model: Model,
    text: Annotated[str | None, typer.Option("--text", help="What to look for.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="A picture to look for others like it.")] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="Of text and picture, when both are given; a negative one leads away.")
    ] = "1,1",
    k: Annotated[int, typer.Option("--k", min=1, help="How many results.")] = 10,
    offset: Annotated[int, typer.Option("--offset", min=0, help="How many to leave out first.")] = 0,
    where: Annotated[str | None, typer.Option("--where", help="A filter, e.g. \"class = 'beach' AND n > 3\".")] = None,
    teacher_index: Annotated[
        bool, typer.Option("--teacher-index", help="Allow an index of a space declared compatible with the model's.")
    ] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Find what fits a text, what looks like a picture, or both at once."""
    import numpy as np

    from vlkd_hub.bundle import read_manifest
    from vlkd_serving.images import PictureLimits, decode_picture
    from vlkd_serving.index import IndexReader, QuerySpace, mix
    from vlkd_serving.loading import load_model
    from vlkd_serving.texts import require_text

    if text is None and image is None:
        raise InvalidInputError("Give either --text or --image, or both.")
    if image is not None and not image.is_file():
        raise InvalidInputError(f"{image} is not a file.")
    loaded = load_model(model, threads)
    teacher = str(read_manifest(model, verify=False).lineage.get("teacher", ""))
    reader = IndexReader.open(directory, QuerySpace(loaded.fingerprint, teacher, teacher_index))
    if reader.degraded:
        typer.secho(f"warning: {reader.degraded}", fg=typer.colors.YELLOW, err=True)
    begin = time.perf_counter()
    parts = []
    if text is not None:
        parts.append(np.asarray(loaded.student.embed_texts([require_text(text, "--text", 1000)])[0]))
    if image is not None:
        parts.append(np.asarray(loaded.student.embed_images([decode_picture(image.read_bytes(), PictureLimits())])[0]))
    query = mix(parts, _weights(weights) if len(parts) == 2 else None)
    hits = reader.search(query, k, offset=offset, where=where)
    _print(hits, (time.perf_counter() - begin) * 1000, as_json)


def _weights(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInputError(f"--weights takes two numbers, as in 0.7,0.3; got {text!r}.") from None


def _print(hits: list[Hit], latency_ms: float, as_json: bool) -> None:
    if as_json:
        results = [{"id": hit.item.id, "score": round(hit.score, 6), "metadata": hit.item.metadata} for hit in hits]
        print_json({"results": results, "latency_ms": round(latency_ms, 3)})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("score", "id", "said of it", caption=f"{latency_ms:.1f} ms")
    for hit in hits:
        captions = hit.item.metadata.get("captions")
        said = captions[0] if isinstance(captions, list) and captions else None
        said = said or hit.item.metadata.get("text") or hit.item.metadata.get("class", "")
        table.add_row(f"{hit.score:.3f}", hit.item.id, str(said))
    Console().print(table)
