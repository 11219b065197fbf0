"""Recipes are checked before anything starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from vlkd_hub.errors import RecipeError
from vlkd_training.phases import check_options, make_method
from vlkd_training.recipe import SPECS, Phase, load_recipe, recipe_kind
from vlkd_training.trainer import DistillationArguments

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.yaml"))
GOOD = {"kind": "distill", "source": "ours", "phases": [{"method": "vlkd"}]}


def write(folder: Path, content: object) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_of_the_package_can_run(file: Path) -> None:
    """Keys, methods and training options all exist, the values survive ``DistillationArguments``' own checks."""
    kind = yaml.safe_load(file.read_text())["kind"]
    recipe = load_recipe(file, kind)
    assert recipe.source
    known = [item.name for item in dataclasses.fields(DistillationArguments) if item.init]
    for phase in recipe.phases:
        processor = SimpleNamespace(generation_kwargs=lambda task: {})
        context = {"scst": {"reward": len, "processor": processor}, "smke": {"widths": (8, 8, 8)}}
        make_method(phase, **context.get(phase.method, {}))
        check_options(phase.train, known, file.name)
        DistillationArguments(output_dir="unused", **{"use_cpu": True, **phase.train, "bf16": False})


def test_found_by_name() -> None:
    assert load_recipe("vlkd-scenes", "distill").phases[-1].method == "vlkd"


def test_reads_nested_parts(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD | {"student": {"image_features": "all_tokens"}}), "distill")
    assert recipe.student.image_features == "all_tokens"
    assert recipe.phases == [Phase(method="vlkd")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD | {"studnet": {}}, "no key 'studnet'. Did you mean 'student'"),
        (GOOD | {"student": {"image_feature": "cls"}}, "student: there is no key 'image_feature'.*'image_features'"),
        (GOOD | {"phases": [{"metod": "vlkd"}]}, "phase 1: there is no key 'metod'. Did you mean 'method'"),
        (GOOD | {"phases": [{"data": {}}]}, "phase 1: .*'method'"),
        (GOOD | {"phases": []}, "has no phases"),
        (GOOD | {"phases": ["vlkd"]}, "phase 1: expected keys and values, got str"),
        ({"kind": "distill", "phases": [{"method": "vlkd"}]}, "'source'"),
        (GOOD | {"kind": "align"}, "recipe to align, and `vlkd distill` was asked for"),
        ("kind: [distill", "is not YAML"),
        (GOOD | {"kind": "distil"}, "kind must be one of align, .*distill, .*got 'distil'"),
        ({"source": "ours", "phases": []}, "kind must be one of .*got None"),
        ("just words", "expected keys and values, got str"),
        ("", "expected keys and values, got NoneType"),
    ],
)
def test_refuses(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, content), "distill")


def test_a_kind_has_its_own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind says what ``student`` is; a key of another kind is refused, since nothing would read it."""

    @dataclasses.dataclass(frozen=True)
    class Other:
        size: int = 3

    monkeypatch.setitem(SPECS, "other", {"student": Other})
    file = write(tmp_path, GOOD | {"kind": "other", "student": {"size": 4}})
    assert recipe_kind(file) == "other"
    assert load_recipe(file, "other").student == Other(4)
    assert load_recipe(write(tmp_path, GOOD | {"kind": "other"}), "other").student == Other(3)
    with pytest.raises(RecipeError, match="student: there is no key 'image_features'"):
        load_recipe(write(tmp_path, GOOD | {"kind": "other", "student": {"image_features": "cls"}}), "other")
    with pytest.raises(RecipeError, match="a recipe to other has no 'teacher'"):
        load_recipe(write(tmp_path, GOOD | {"kind": "other", "teacher": {}}), "other")


def test_phases_must_be_a_list(tmp_path: Path) -> None:
    """One phase written without its dash, or none at all: a plain error, not a traceback."""
    for wrong in ({"method": "vlkd"}, None):
        with pytest.raises(RecipeError, match="phases"):
            load_recipe(write(tmp_path, GOOD | {"phases": wrong}), "distill")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="No recipe named 'vlkd-scene'; there are .*vlkd-scenes"):
        load_recipe("vlkd-scene", "distill")
    with pytest.raises(RecipeError, match=r"No recipe at not/there\.yaml"):
        load_recipe("not/there.yaml", "distill")


def test_unknown_method_and_option() -> None:
    with pytest.raises(RecipeError, match="no method 'vlkds'. Did you mean 'vlkd'"):
        make_method(Phase(method="vlkds"))
    with pytest.raises(RecipeError, match="method_options of 'vlkd': .*gama"):
        make_method(Phase(method="vlkd", method_options={"gama": 1}))
    with pytest.raises(RecipeError, match="here: there is no key 'mask_ration'. Did you mean 'mask_ratio'"):
        check_options({"mask_ration": 1}, ["mask_ratio"], "here")
