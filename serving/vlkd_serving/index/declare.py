"""Declare, after a measurement, that a model may query an index that another one built: a student, its teacher's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_serving.index.build import embed_pictures, read_from
from vlkd_serving.index.commit import commit, disk_errors
from vlkd_serving.index.lock import writer_lock
from vlkd_serving.index.reader import IndexReader
from vlkd_serving.protocol import Student

__all__ = ["Agreement", "declare_compatible", "measure_agreement"]

SAMPLE = 64
LEAST_RECALL = 0.8
"""Share of pictures that must find themselves first; two unrelated spaces reach about 1 / items."""


@dataclass(frozen=True)
class Agreement:
    """How a model's vectors fit an index, on a sample of the index's own pictures.

    Args:
        pictures: how many.
        cosine: mean cosine of the model's vector and the stored one.
        recall_at_1: share of pictures whose own entry is the first hit of the model's vector.
    """

    pictures: int
    cosine: float
    recall_at_1: float


def measure_agreement(reader: IndexReader, student: Student, images: Path | None = None) -> Agreement:
    """Embed a sample of the index's pictures and look for them.

    Args:
        reader: the index.
        student: the model that is to query it.
        images: where the pictures lie; by default where the index says.

    Raises:
        InvalidInputError: vectors of another width.
        DataError: no picture of the index can be read here.
    """
    root = reader.manifest.image_root
    place = images or (None if root is None else root.resolve(reader.directory))
    if place is None:
        raise DataError(f"The pictures of {reader.directory} are needed to measure, and are not known here: --images.")
    withs = [item for item in reader.iter_items() if item.path is not None]
    chosen = np.random.default_rng(0).permutation(len(withs))[:SAMPLE]
    found = embed_pictures([withs[n] for n in chosen], student, read_from(place), 16, lambda done: None)
    if not found.items:
        raise DataError(f"None of {len(chosen)} pictures of {reader.directory} can be read under {place}.")
    width = reader.manifest.embedding_dim
    if found.vectors.shape[1] != width:
        raise InvalidInputError(
            f"The model gives {found.vectors.shape[1]} values and the index holds {width}: they cannot be compatible."
        )
    cosines, first = [], 0
    for item, vector in zip(found.items, found.vectors, strict=True):
        own = reader.score_of(item.id, vector)
        cosines.append(own)
        first += own >= reader.search(vector, 1)[0].score - 1e-4  # an equal picture counts as the same
    return Agreement(len(found.items), float(np.mean(cosines)), first / len(found.items))


def declare_compatible(directory: Path, student: Student, fingerprint: str, images: Path | None = None) -> Agreement:
    """Measure, and if the pictures find themselves write the model's fingerprint into the manifest.

    Raises:
        InvalidInputError: fewer than 80 % of the pictures find themselves, or another width.
        DataError: nothing to measure on.
    """
    with writer_lock(directory):
        reader = IndexReader.open(directory)
        agreement = measure_agreement(reader, student, images)
        if agreement.recall_at_1 < LEAST_RECALL:
            raise InvalidInputError(
                f"Only {agreement.recall_at_1:.0%} of {agreement.pictures} pictures find themselves (mean cosine "
                f"{agreement.cosine:.3f}), expected {LEAST_RECALL:.0%}: this model does not live in the index's space."
            )
        known = reader.manifest.compatible
        with disk_errors(directory):
            commit(directory, replace(reader.manifest, compatible=sorted({*known, fingerprint})))
        return agreement
