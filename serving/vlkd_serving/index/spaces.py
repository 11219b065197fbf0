"""May this model query that index? Only if the embedding space is the same, or was declared to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlkd_serving.index.errors import SpaceError
from vlkd_serving.index.manifest import IndexManifest

__all__ = ["QuerySpace", "check_space"]


@dataclass(frozen=True)
class QuerySpace:
    """The embedding space of the model that will query.

    Args:
        fingerprint: of the model.
        teacher: name of the teacher's space that the model was distilled into (its bundle's lineage), or empty.
        teacher_index: whether the caller allows, in so many words, an index of a declared compatible space.
    """

    fingerprint: str
    teacher: str = ""
    teacher_index: bool = False

    @classmethod
    def of(cls, space: str | QuerySpace) -> QuerySpace:
        """A fingerprint alone means: the same space or none."""
        return cls(space) if isinstance(space, str) else space


def check_space(directory: Path, manifest: IndexManifest, space: str | QuerySpace | None) -> None:
    """Refuse an index whose scores would mean nothing; None skips the comparison.

    Raises:
        SpaceError: another space, or a compatible one without the flag that allows it.
    """
    if space is None:
        return
    asked = QuerySpace.of(space)
    if manifest.fingerprint == asked.fingerprint:
        return
    by_measure = asked.fingerprint in manifest.compatible
    by_lineage = bool(manifest.space) and manifest.space == asked.teacher
    what = (
        f"The index {directory} was built with another model (its embedding space is {manifest.fingerprint[:12]}, this "
        f"model's is {asked.fingerprint[:12]})"
    )
    if not (by_measure or by_lineage):
        raise SpaceError(
            f"{what}: scores would mean nothing. Load the model it was built with, bring it to this model with "
            "`vlkd index migrate`, or, for a student and its teacher's index, see `vlkd index declare`."
        )
    if not asked.teacher_index:
        raise SpaceError(f"{what}; the two are declared compatible. Say --teacher-index to search it all the same.")
