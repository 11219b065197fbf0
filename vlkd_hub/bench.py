"""``vlkd bench``: a group whose members come from the entry-point group ``vlkd.benches``."""

from __future__ import annotations

import typer

from vlkd_hub._commands import EntryPointGroup, Verb

__all__ = ["app"]


class BenchGroup(EntryPointGroup):
    """The benches of ``vlkd bench``."""

    entry_point_group = "vlkd.benches"
    verbs = {
        "caption": Verb("Seconds for one caption at batch 1: torch, ONNX, and over HTTP.", "export"),
        "export": Verb("Every way to run a tower, side by side: torch, onnxruntime, OpenVINO, fp32 to int8.", "export"),
        "index": Verb("Queries a second of a large index: recall, memory, changes while it is searched.", "serve"),
        "paper": Verb("A paper's comparisons in small: resumable, seeds, tables beside the paper's.", "train"),
        "serve": Verb("The server under load, beside the same work without a server; start and memory.", "serve"),
        "train": Verb("A training step: cached and live teacher, a plain loop, a chunked contrast.", "train"),
    }


app = typer.Typer(
    name="bench",
    cls=BenchGroup,
    help="Measure speed, and print it with the load of the machine.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def root() -> None:
    """Measure speed, and print it with the load of the machine."""
