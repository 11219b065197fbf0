"""Options that several commands of ``vlkd index`` share, and how they print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vlkd_serving.index import Budget
    from vlkd_serving.index.build import Skipped

__all__ = [
    "SOME_SKIPPED",
    "AsJson",
    "Directory",
    "Kind",
    "Latency",
    "Memory",
    "Model",
    "Precision",
    "Recall",
    "RootName",
    "Threads",
    "budget_of",
    "print_json",
    "print_skipped",
    "progress_bar",
]

SOME_SKIPPED = 3
"""Exit code of a build that is committed but left pictures out."""
_MOST_LISTED = 20

Directory = Annotated[Path, typer.Argument(help="The index folder.")]
Model = Annotated[Path, typer.Option("--model", help="A bundle that `vlkd export` wrote.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one inference.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Recall = Annotated[float, typer.Option("--recall", help="Recall@10 to reach against exact search; 1 is exact search.")]
Memory = Annotated[str | None, typer.Option("--memory", help="Most memory for the searched structure, e.g. 2GB.")]
Latency = Annotated[float | None, typer.Option("--latency-ms", help="Longest median time of one search.")]
Kind = Annotated[str, typer.Option("--kind", help="auto, flat, hnsw, ivf or ivfpq.")]
Precision = Annotated[str, typer.Option("--precision", help="Of the searched vectors: auto, fp32, fp16, int8, binary.")]
RootName = Annotated[
    str,
    typer.Option("--root-name", help="Named root of the picture folder: VLKD_ROOT_<NAME>; default: the index folder."),
]


def budget_of(recall: float, memory: str | None, latency_ms: float | None, kind: str, precision: str) -> Budget:
    """The options as a budget.

    Raises:
        InvalidInputError: a value out of range.
    """
    from vlkd_serving.index import Budget
    from vlkd_serving.index.sizes import parse_size

    size = parse_size(memory) if memory is not None else None
    return Budget(recall=recall, memory_bytes=size, latency_ms=latency_ms, kind=kind, codec=precision)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on the standard error; yields what to call with the number done since the last call."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.advance(task, done)


def print_skipped(skipped: Sequence[Skipped]) -> None:
    """The first pictures left out, on the standard error."""
    for each in skipped[:_MOST_LISTED]:
        typer.secho(f"skipped {each.id}: {each.reason}", fg=typer.colors.YELLOW, err=True)
    if len(skipped) > _MOST_LISTED:
        typer.secho(f"... and {len(skipped) - _MOST_LISTED} more.", fg=typer.colors.YELLOW, err=True)


def print_json(value: Any) -> None:
    """JSON on the standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
