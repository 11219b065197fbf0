"""The ``vlkd`` command. It imports a verb's module only when that verb is typed, so ``vlkd --help`` is instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from vlkd_hub._commands import EntryPointGroup, Verb
from vlkd_hub._version import __version__
from vlkd_hub.errors import VlkdError

__all__ = ["VERBS", "app", "main"]

USER_ERROR = 2

VERBS: dict[str, Verb] = {
    "quickstart": Verb("The whole path on made-up scenes: distil, evaluate, export, index, search, ask.", "all"),
    "doctor": Verb("Show what is installed, what this machine can do, and what to install next.", ""),
    "scenes": Verb("Make a data set of pictures of coloured shapes with captions, questions and boxes.", "train"),
    "align": Verb("Make a CLIP-style teacher from an image encoder and a text encoder.", "train"),
    "distill": Verb("Distil a teacher into a student, by a recipe.", "train"),
    "finetune": Verb("Fine-tune a student (captions, answers, texts) or an encoder on classes, by a recipe.", "train"),
    "evaluate": Verb("Measure retrieval, captions and answers of a model on a split.", "train"),
    "export": Verb("Write a student as an ONNX bundle, and prove that it answers as the student does.", "export"),
    "verify": Verb("Check a bundle: its files, and its answers against the student it came from.", "export"),
    "push": Verb("Send a student, its bundle, or both to the Hub, with a model card.", ""),
    "pull": Verb("Copy a student or a bundle from the Hub to a folder.", ""),
    "bench": Verb("Measure speed, and print it with the load of the machine.", "export"),
    "index": Verb("Build and search an index of pictures.", "serve"),
    "serve": Verb("Answer searches, captions and questions over HTTP.", "serve"),
    "scale": Verb("Serve and embed on several machines, with Ray.", "scale"),
    "keys": Verb("Make API keys for the server.", "serve"),
    "demo": Verb("Open a page to search, caption and ask.", "demo"),
}


class RootGroup(EntryPointGroup):
    """The verbs of ``vlkd``."""

    entry_point_group = "vlkd.commands"
    verbs = VERBS


app = typer.Typer(
    name="vlkd",
    cls=RootGroup,
    help="Distil large vision-language models into small students, export them, and serve them.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"vlkd-hub {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that come before the verb."""


def main(args: Sequence[str] | None = None) -> None:
    """Run ``vlkd`` with ``args`` (default: the command line), then exit.

    An error raised on purpose becomes one red line and exit code 2; any other error keeps its traceback.
    """
    try:
        typer.main.get_command(app)(args=list(args) if args is not None else None, prog_name="vlkd")
    except VlkdError as error:
        message = " ".join(str(error).split("\n"))
        typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
        sys.exit(USER_ERROR)


if __name__ == "__main__":
    main()
