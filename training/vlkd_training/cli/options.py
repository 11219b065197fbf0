"""Options that the training verbs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vlkd_hub.errors import RecipeError

__all__ = [
    "CacheOption",
    "DataOption",
    "LimitOption",
    "OutputOption",
    "SeedOption",
    "SetOption",
    "SplitOption",
    "overrides",
]

DataOption = Annotated[
    str, typer.Option(help="Folder with <split>/metadata.jsonl, COCO/Karpathy file, or data set id.")
]
OutputOption = Annotated[Path, typer.Option(help="Folder to write the model to.")]
SplitOption = Annotated[str, typer.Option(help="Split to train on.")]
LimitOption = Annotated[int | None, typer.Option(help="Use only the first pictures.")]
CacheOption = Annotated[Path | None, typer.Option(help="Folder for cached features of frozen towers.")]
SeedOption = Annotated[int, typer.Option(help="Seed of weights and batches.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Training argument over the recipe's: name=value.")]


def overrides(pairs: list[str] | None) -> dict[str, Any]:
    """Parse ``name=value`` pairs; a value is JSON where it can be, else text.

    Raises:
        RecipeError: a pair has no ``=``.
    """
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, separator, value = pair.partition("=")
        if not separator:
            raise RecipeError(f"--set takes name=value, for example --set max_steps=50; got {pair!r}.")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found
