"""Options that the training verbs share."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vlkd_hub.errors import RecipeError

__all__ = ["RunOptions", "overrides", "with_run_options"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every training verb takes."""

    data: Annotated[str, typer.Option(help="Folder with <split>/metadata.jsonl, COCO/Karpathy file, or data set id.")]
    output: Annotated[Path, typer.Option(help="Folder to write the model to.")]
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train"
    limit: Annotated[int | None, typer.Option(help="Use only the first pictures, or texts.")] = None
    cache: Annotated[Path | None, typer.Option(help="Folder for cached features of frozen towers.")] = None
    cache_dtype: Annotated[
        Literal["float16", "int8"], typer.Option(help="How cached picture features are kept; int8 halves them.")
    ] = "float16"
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what an interrupted run left.")] = False
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Training argument over the recipe's: name=value.")
    ] = None

    def keywords(self) -> dict[str, Any]:
        """The keyword arguments of ``run_align``, ``run_distill`` and ``run_finetune``."""
        names = ("split", "limit", "cache", "cache_dtype", "seed", "resume")
        return {name: getattr(self, name) for name in names} | {"overrides": overrides(self.set_)}


def with_run_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of :class:`RunOptions` in the place of its parameter ``options``."""
    shared = inspect.signature(RunOptions, eval_str=True).parameters
    own = [item for item in inspect.signature(verb, eval_str=True).parameters.values() if item.name != "options"]

    @functools.wraps(verb)
    def with_options(**values: Any) -> None:
        options = RunOptions(**{name: values.pop(name) for name in shared})
        verb(**values, options=options)

    parameters = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in [*own, *shared.values()]]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {item.name: item.annotation for item in parameters}
    return with_options


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
