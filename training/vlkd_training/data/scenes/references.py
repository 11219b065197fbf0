"""Names for objects that point to exactly one thing of a scene."""

from __future__ import annotations

from vlkd_training.data.scenes.grammar import plural
from vlkd_training.data.scenes.world import Scene, SceneObject

__all__ = ["group_questions", "named_objects", "unique_references"]

_DETAILS: tuple[tuple[str, ...], ...] = ((), ("size",), ("material",))


def named_objects(scene: Scene) -> list[SceneObject]:
    """Objects whose (colour, shape) occurs once, so that "the red circle" is unambiguous."""
    pairs = scene.pairs()
    return [item for item in scene.objects if pairs[item.pair] == 1]


def unique_references(scene: Scene, *, hidden: str) -> list[tuple[SceneObject, str]]:
    """Ways to point at one object without telling ``hidden``.

    Args:
        scene: the scene.
        hidden: the attribute asked for: ``color`` (then "the small circle") or ``shape`` (then "the red object").

    Returns:
        (object, reference) pairs, each reference as short as it can be.
    """
    shown = "shape" if hidden == "color" else "color"
    found = []
    for item in scene.objects:
        for details in _DETAILS:
            keys = (*details, shown)
            same = [other for other in scene.objects if all(getattr(other, k) == getattr(item, k) for k in keys)]
            if len(same) == 1:
                words = [getattr(item, key) for key in keys] + ([] if hidden == "color" else ["object"])
                found.append((item, "the " + " ".join(words)))
                break
    return found


def group_questions(scene: Scene) -> list[tuple[str, str, str]]:
    """(question, answer, type) about several objects that agree: "what color are the circles?"."""
    found = []
    for shape in sorted({item.shape for item in scene.objects}):
        colors = [item.color for item in scene.objects if item.shape == shape]
        if len(colors) > 1 and len(set(colors)) == 1:
            found.append((f"what color are the {plural(shape)}?", colors[0], "color"))
    for color in sorted({item.color for item in scene.objects}):
        shapes = [item.shape for item in scene.objects if item.color == color]
        if len(shapes) > 1 and len(set(shapes)) == 1:
            found.append((f"what shape are the {color} objects?", shapes[0], "shape"))
    for attribute in ("color", "shape"):
        values = {getattr(item, attribute) for item in scene.objects}
        if len(values) == 1:
            things = "is the object" if len(scene.objects) == 1 else "are the objects"
            found.append((f"what {attribute} {things}?", values.pop(), attribute))
    return found
