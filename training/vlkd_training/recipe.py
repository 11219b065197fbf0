"""Recipes: YAML files that hold every choice of a run, checked before anything starts."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vlkd_hub.errors import RecipeError

from .image_quantizer_specs import QuantizerSpec, QuantizerTeacherSpec
from .smke_specs import SmkeStudentSpec, SmkeTeacherSpec
from .unimodal_specs import ClassifierSpec, UnimodalStudentSpec, UnimodalTeacherSpec

__all__ = ["SPECS", "Phase", "Recipe", "StudentSpec", "TeacherSpec", "load_recipe", "recipe_folders", "recipe_kind"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TeacherSpec:
    """The dual encoder that `vlkd align` makes."""

    vision: str = "efficientnet-lite0"
    """Name for :func:`vlkd_training.encoders.load_vision_backbone`."""

    text: str = "all-minilm-l6-v2"
    """Name for :func:`vlkd_training.encoders.load_text_encoder`."""

    tower: dict[str, Any] = field(default_factory=dict)
    """Fields of ``VisionTowerConfig`` beyond the backbone's own."""

    projection_dim: int = 512
    text_dropout: float = 0.0
    image_size: int = 224
    """Side of the picture that the tower sees, in pixels."""

    resize: str = "squash"
    """``"squash"`` keeps the whole picture; ``"crop"`` keeps its proportions and cuts the centre."""

    views: int = 1
    """Cached augmented views of each training picture, the plain one included."""


@dataclass(frozen=True, kw_only=True)
class StudentSpec:
    """The VLKD student that `vlkd distill` makes."""

    text_encoder: str = "all-minilm-l6-v2"
    """Name for :func:`vlkd_training.encoders.load_text_encoder`; a BART brings its decoder too."""

    text_encoder_layers: int | None = None
    """Keep only the first layers of the text encoder."""

    decoder: dict[str, Any] = field(default_factory=dict)
    """Fields of ``BartConfig`` for a decoder that starts from random weights."""

    image_features: str = "cls"
    visual_scale: float | str = 1.0
    """A number, or ``"sqrt_dim"`` for the square root of the shared space's width."""

    least_squares_init: bool = True
    """Solve W_e against the teacher's text vectors before training, see ``build.solve_text_projection``."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training with one method."""

    method: str
    method_options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    """Options of the collator: ``mask_ratio``, ``poisson_lambda``, ``max_length``, ``repeats`` of each task."""

    train: dict[str, Any] = field(default_factory=dict)
    """Fields of ``DistillationArguments``."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run: what is made and the phases that train it."""

    kind: str
    """What is made: a key of :data:`SPECS`."""

    source: str
    """Where the values come from: the paper's table, or ours."""

    phases: list[Phase]
    teacher: Any = None
    """The kind's dataclass in :data:`SPECS`, with its defaults where the file has no such key."""

    student: Any = None
    """Likewise."""

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Changes to the processor's task table (prompts, masks, decoding)."""

    requires: dict[str, Any] = field(default_factory=dict)
    """What the recipe expects of its teacher, for the reader; not read by the trainer."""


SPECS: dict[str, dict[str, type]] = {
    "align": {"teacher": TeacherSpec, "student": StudentSpec},
    "classify": {"student": ClassifierSpec},
    "distill": {"teacher": TeacherSpec, "student": StudentSpec},
    "finetune": {"teacher": TeacherSpec, "student": StudentSpec},
    "quantize-images": {"teacher": QuantizerTeacherSpec, "student": QuantizerSpec},
    "smke": {"teacher": SmkeTeacherSpec, "student": SmkeStudentSpec},
    "unimodal": {"teacher": UnimodalTeacherSpec, "student": UnimodalStudentSpec},
}
"""What ``teacher`` and ``student`` are in a recipe of each kind; a key that a kind does not have is refused."""


def recipe_folders() -> list[Path]:
    """Where recipes are looked for by name: the working folder, then the ones that come with the package."""
    inside = Path(__file__).parent / "recipes"  # an installed wheel
    beside = Path(__file__).parent.parent / "recipes"  # a checkout
    return [Path.cwd(), *(folder for folder in (inside, beside) if folder.is_dir())]


def load_recipe(name: str | Path, kind: str) -> Recipe:
    """Read and check a recipe.

    Args:
        name: a path, or a name without ``.yaml``.
        kind: what the caller can run.

    Raises:
        RecipeError: no such recipe, an unknown or missing key, a wrong kind.
    """
    file = _find(name)
    recipe = _build_recipe(_read(file), file.name)
    if recipe.kind != kind:
        raise RecipeError(f"{file.name} is a recipe to {recipe.kind}, and `vlkd {kind}` was asked for.")
    if not recipe.phases:
        raise RecipeError(f"{file.name} has no phases; nothing would be trained.")
    return recipe


def recipe_kind(name: str | Path) -> str:
    """Return the kind of a recipe, for a verb that runs several.

    Raises:
        RecipeError: no such recipe, or a kind that nothing runs.
    """
    file = _find(name)
    return _kind(_read(file), file.name)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{file.name} is not YAML: {error}") from error
    return _mapping(content, file.name)


def _find(name: str | Path) -> Path:
    direct = Path(name)
    if direct.suffix in (".yaml", ".yml"):
        if direct.exists():
            return direct
        raise RecipeError(f"No recipe at {direct}.")
    for folder in recipe_folders():
        if (folder / f"{name}.yaml").exists():
            return folder / f"{name}.yaml"
    known = sorted({file.stem for folder in recipe_folders()[1:] for file in folder.glob("*.yaml")})
    raise RecipeError(f"No recipe named {str(name)!r}; there are {', '.join(known) or 'none'}, or give a .yaml file.")


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: expected keys and values, got {type(content).__name__}.")
    return content


def _kind(content: dict[str, Any], where: str) -> str:
    kind = content.get("kind")
    if kind not in SPECS:
        raise RecipeError(f"{where}: kind must be one of {', '.join(SPECS)}, got {kind!r}.")
    return str(kind)


def _build_recipe(content: dict[str, Any], where: str) -> Recipe:
    """Make the recipe and its nested parts, each of its kind."""
    values, kind = dict(content), _kind(content, where)
    for key in ("teacher", "student"):
        if key in SPECS[kind]:
            values[key] = _build(SPECS[kind][key], values.get(key, {}), f"{where}: {key}")
        elif key in values:
            raise RecipeError(f"{where}: a recipe to {kind} has no {key!r}.")
    if "phases" in values:
        if not isinstance(values["phases"], list):
            raise RecipeError(f"{where}: phases must be a list, each entry with a method, got {values['phases']!r}.")
        values["phases"] = [
            _build(Phase, phase, f"{where}: phase {number + 1}") for number, phase in enumerate(values["phases"])
        ]
    return _build(Recipe, values, where)


def _build(kind: type[T], content: Any, where: str) -> T:
    """Make a dataclass from a mapping, refusing keys it does not have."""
    values = _mapping(content, where)
    fields = {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise RecipeError(f"{where}: there is no key {key!r}.{suggestion(key, fields)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise RecipeError(f"{where}: {error}") from error


def suggestion(key: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" for the nearest known key, or the list of them."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known keys: {', '.join(names)}."
