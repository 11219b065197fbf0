"""How many replicas of what, and what each of them gets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.settings import ServerSettings

__all__ = ["INGRESS_CPUS", "Replicas", "ScaleSettings"]

INGRESS_CPUS = 0.5
"""Processors that Ray sets aside for an ingress replica."""
_RANGE = re.compile(r"([1-9][0-9]*)(?::([1-9][0-9]*))?")


@dataclass(frozen=True)
class Replicas:
    """A fixed number of replicas, or bounds between which Ray Serve chooses by load.

    Args:
        least: always there.
        most: at most; equal to ``least``: never scaled.
    """

    least: int = 1
    most: int = 1

    @classmethod
    def parse(cls, value: int | str) -> Replicas:
        """``3`` is three, ``1:8`` is one to eight.

        Raises:
            InvalidInputError: anything else, or more least than most.
        """
        match = _RANGE.fullmatch(str(value))
        found = cls(int(match[1]), int(match[2] or match[1])) if match else None
        if found is None or found.most < found.least:
            raise InvalidInputError(f"A number of replicas is written as 3, or as 1:8 for one to eight; got {value!r}.")
        return found


@dataclass(frozen=True, kw_only=True)
class ScaleSettings:
    """One application: a model, the shards of its index, and how many replicas of each part."""

    model: str
    """Bundle folder, at the same path on every machine."""
    shards: tuple[str, ...] = ()
    """Index folders, by ``vlkd index split`` or built apart; each is searched by replicas of its own."""
    threads: int = 1
    """Of one inference, and processors that Ray sets aside for an encoder or decoder replica."""
    shard_threads: float = 0.5
    """Processors that Ray sets aside for a replica of a shard."""
    ingresses: Replicas = Replicas()
    encoders: Replicas = Replicas()
    decoders: Replicas = Replicas()
    searchers: Replicas = Replicas()
    """Replicas of each shard."""
    match_words: bool = False
    """Answer ``/v1/match`` too, with a bundle exported with ``--match-words``."""
    server: ServerSettings = field(default_factory=ServerSettings)
    """Limits, as of ``vlkd serve``; ``host`` and ``port`` are those of Ray Serve's proxy instead."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.shard_threads <= 0:
            raise InvalidInputError(
                f"threads must be at least 1 and shard_threads above 0, got {self.threads} and {self.shard_threads}."
            )
        if len(set(self.shards)) < len(self.shards):
            raise InvalidInputError("A shard is named twice: its items would be found twice.")

    @property
    def name(self) -> str:
        """By which requests ask for the model."""
        return Path(self.model).absolute().name

    @property
    def cpus(self) -> float:
        """Processors that all replicas set aside at their most."""
        models = self.threads * (self.encoders.most + self.decoders.most)
        return models + self.shard_threads * len(self.shards) * self.searchers.most + INGRESS_CPUS * self.ingresses.most

    @classmethod
    def from_args(cls, args: dict[str, Any]) -> ScaleSettings:
        """From the ``args`` of a Serve config file or the ``KEY=VALUE`` of ``serve run``.

        ``shards`` is a list, or one text with commas; ``server`` holds fields of :class:`ServerSettings`.

        Raises:
            InvalidInputError: an unknown or missing key, or a value out of range.
        """
        known = {each.name: each for each in fields(cls)}
        unknown = sorted(args.keys() - known)
        if unknown or "model" not in args:
            problem = f"unknown: {', '.join(unknown)}" if unknown else "'model' is missing"
            raise InvalidInputError(f"The arguments of the application are {', '.join(known)}; {problem}.")
        values: dict[str, Any] = dict(args)
        if isinstance(values.get("shards"), str):
            values["shards"] = [part for part in values["shards"].split(",") if part]
        values["shards"] = tuple(values.get("shards", ()))
        for name in ("ingresses", "encoders", "decoders", "searchers"):
            if name in values:
                values[name] = Replicas.parse(values[name])
        values["threads"] = int(values.get("threads", 1))
        values["shard_threads"] = float(values.get("shard_threads", cls.shard_threads))
        match_words = str(values.get("match_words", False)).lower()
        if match_words not in ("true", "false"):
            raise InvalidInputError(f"match_words is true or false, got {match_words!r}.")
        values["match_words"] = match_words == "true"
        try:
            values["server"] = ServerSettings(**_tuples(values.get("server", {})))
        except TypeError as error:
            raise InvalidInputError(f"'server' holds what no server setting is: {error}.") from None
        return cls(**values)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Lists of a YAML file as the tuples of a frozen record."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
