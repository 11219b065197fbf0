"""`vlkd distill` runs what the recipe's kind says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_training.cli import distill as verb
from vlkd_training.recipe import SPECS

PLAIN = {"data": "scenes:8", "output": Path("unused"), "recipe": "vlkd-scenes"}


def call(**values: Any) -> None:
    defaults = {"split": "train", "limit": None, "cache": None, "cache_dtype": "float16", "seed": 0, "resume": False}
    own = {"teacher": None, "save_initial": False, "stream": False}
    verb.distill(**(defaults | {"set_": None} | own | PLAIN | values))


def test_a_recipe_that_takes_a_teacher_needs_one() -> None:
    with pytest.raises(InvalidInputError, match="Give the teacher: --teacher FOLDER"):
        call()


def test_the_kind_chooses_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that names its own teacher is run without one, and refuses the options that it would not read."""
    calls: list[Any] = []
    monkeypatch.setitem(SPECS, "other", {})
    monkeypatch.setitem(verb._TEACHER_IN_RECIPE, "other", lambda *args, **options: calls.append((args, options)))
    recipe = tmp_path / "other.yaml"
    recipe.write_text("kind: other\nsource: ours\nphases: [{method: vlkd}]\n")
    call(recipe=str(recipe), seed=3)
    ((args, options),) = calls
    assert args == (str(recipe), "scenes:8", Path("unused"))
    assert options["seed"] == 3
    for wrong in ({"teacher": "folder"}, {"save_initial": True}, {"stream": True}):
        with pytest.raises(InvalidInputError, match="names its own teacher"):
            call(recipe=str(recipe), **wrong)
    assert len(calls) == 1
