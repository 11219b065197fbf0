"""Load a bundle and, with it, the index that its embedding space fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlkd_serving.protocol import Student

__all__ = ["LoadedModel", "load_model"]


@dataclass(frozen=True)
class LoadedModel:
    """A student, the identity of its embedding space, and a name for people."""

    student: Student
    fingerprint: str
    name: str


def load_model(bundle: Path, threads: int | None = None) -> LoadedModel:
    """Load a bundle's student.

    Args:
        bundle: folder that ``vlkd export`` wrote.
        threads: of one inference; None lets the runtime choose.

    Raises:
        BundleError: not a bundle, incomplete, or changed.
    """
    from vlkd_serving.runtime import OnnxStudent

    student = OnnxStudent.from_pretrained(bundle, threads=threads)
    return LoadedModel(student, student.manifest.fingerprint, bundle.resolve().name)
