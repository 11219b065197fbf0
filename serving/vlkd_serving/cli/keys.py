"""``vlkd keys``: API keys for ``vlkd serve --keys``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(name="keys", help="API keys for the server.", no_args_is_help=True, add_completion=False)
_FILE = Annotated[Path, typer.Argument(help="The file of keys; it holds only their hashes.", metavar="FILE")]


@app.command()
def add(
    file: _FILE,
    name: Annotated[str, typer.Option("--name", help="Whose key it is.")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="read or write; repeatable.")] = None,
) -> None:
    """Make a key, append its hash to FILE, and print the key: it is shown only now."""
    from vlkd_serving.security.keys import add_key

    typer.echo(add_key(file, name, scope or ["read"]))


@app.command("list")
def show(file: _FILE) -> None:
    """Print the names of the keys in FILE."""
    from vlkd_serving.security.keys import KeyRing

    for name in KeyRing.load(file).names:
        typer.echo(name)


@app.command()
def remove(file: _FILE, name: Annotated[str, typer.Option("--name", help="Whose key it is.")]) -> None:
    """Take a key out of FILE; a running server refuses it a second later."""
    from vlkd_serving.security.keys import remove_key

    remove_key(file, name)
