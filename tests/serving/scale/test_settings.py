"""The settings of the application, from a command line or a config file."""

from __future__ import annotations

import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.scale.settings import Replicas, ScaleSettings


@pytest.mark.parametrize(("written", "meant"), [("3", (3, 3)), (3, (3, 3)), ("1:8", (1, 8)), ("2:2", (2, 2))])
def test_replicas(written: str | int, meant: tuple[int, int]) -> None:
    """A number or a range."""
    assert Replicas.parse(written) == Replicas(*meant)


@pytest.mark.parametrize("written", ["0", "8:1", "1:", ":3", "-1", "many", "1:2:3", 0])
def test_replicas_that_mean_nothing(written: str | int) -> None:
    """What cannot be a number of replicas is told, not rounded."""
    with pytest.raises(InvalidInputError, match="1:8 for one to eight; got"):
        Replicas.parse(written)


def test_arguments_of_a_config_file() -> None:
    """Lists, texts with commas and nested server settings."""
    settings = ScaleSettings.from_args(
        {"model": "/bundles/photos", "shards": "/i/0,/i/1", "encoders": "1:4", "threads": "2", "server": {"max_k": 50}}
    )
    assert settings.shards == ("/i/0", "/i/1") and settings.encoders == Replicas(1, 4) and settings.threads == 2
    assert settings.server.max_k == 50 and settings.name == "photos"
    assert settings.cpus == 2 * (4 + 1) + 0.5 * 2 + 0.5
    assert not settings.match_words
    assert ScaleSettings.from_args({"model": "b", "match_words": "true"}).match_words


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({}, "'model' is missing"),
        ({"model": "b", "shard": "i"}, "unknown: shard"),
        ({"model": "b", "server": {"ports": 1}}, "no server setting is"),
        ({"model": "b", "server": {"max_k": 0}}, "max_k must be at least 1"),
        ({"model": "b", "shards": ["i", "i"]}, "found twice"),
        ({"model": "b", "threads": 0}, "threads must be at least 1"),
        ({"model": "b", "match_words": "maybe"}, "true or false, got 'maybe'"),
    ],
)
def test_arguments_that_are_wrong(args: dict[str, object], problem: str) -> None:
    """A misspelt key must not start a cluster with the defaults."""
    with pytest.raises(InvalidInputError, match=problem):
        ScaleSettings.from_args(args)
