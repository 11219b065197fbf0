"""Small pieces of English: articles, plurals, lists, and the scene's objects gathered into groups of equals."""

from __future__ import annotations

from dataclasses import dataclass

from vlkd_training.data.scenes.vocabulary import NUMBER_WORDS
from vlkd_training.data.scenes.world import Scene, SceneObject

__all__ = ["CLEAR", "Group", "groups_of", "is_clearly", "join_list", "plural", "with_article", "word_count"]

CLEAR = 0.15
"""Two centres this far apart along an axis (as a part of the picture's side) stand clearly left/right, above/below."""


@dataclass(frozen=True)
class Group:
    """Objects that are equal in colour, shape, size and material."""

    members: tuple[SceneObject, ...]

    def phrase(self, *, size: bool = False, material: bool = False, article: bool = True) -> str:
        """For example ``"three small red circles"`` or ``"an orange star"``."""
        first, many = self.members[0], len(self.members) > 1
        words = [first.size] * size + [first.material] * material + [first.color]
        noun = " ".join([*words, plural(first.shape) if many else first.shape])
        if many:
            return f"{NUMBER_WORDS[len(self.members)]} {noun}"
        return with_article(noun) if article else noun

    @property
    def center(self) -> float:
        """Mean place from left to right."""
        return sum(item.x for item in self.members) / len(self.members)


def groups_of(scene: Scene) -> list[Group]:
    """The scene's groups, from left to right."""
    by_pair: dict[tuple[str, str], list[SceneObject]] = {}
    for item in scene.objects:
        by_pair.setdefault(item.pair, []).append(item)
    return sorted((Group(tuple(members)) for members in by_pair.values()), key=lambda group: group.center)


def is_clearly(first: SceneObject, relation: str, second: SceneObject) -> bool:
    """Whether ``first`` stands clearly ``left``, ``right``, ``above`` or ``below`` of ``second``."""
    distances = {
        "left": second.x - first.x,
        "right": first.x - second.x,
        "above": second.y - first.y,
        "below": first.y - second.y,
    }
    return distances[relation] >= CLEAR


def with_article(noun: str) -> str:
    """``"an orange star"``, ``"a red circle"``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(shape: str) -> str:
    """``"circles"``, ``"crosses"``."""
    return shape + ("es" if shape.endswith("s") else "s")


def join_list(items: list[str]) -> str:
    """``"a, b and c"``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def word_count(sentence: str) -> int:
    """Words between blanks."""
    return len(sentence.split())
