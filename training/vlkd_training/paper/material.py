"""What all runs on one data set share: teacher, pictures and texts, with everything frozen in the feature cache."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlkd_training.build import build_student, load_teacher
from vlkd_training.cache import weights_fingerprint
from vlkd_training.data import load_records
from vlkd_training.data.collate import PictureSource
from vlkd_training.data.records import RecordDataset
from vlkd_training.distill import cached_picture_tokens, encoder_means, teacher_text_vectors
from vlkd_training.paper.scoring import HeldOut
from vlkd_training.recipe import Recipe
from vlkd_training.rows import CaptionRows

__all__ = ["FirstToken", "Material", "picture_source", "pictures_of", "rows_of"]


class FirstToken:
    """Cached tokens of which only v_cls is seen: the CLS variant of a picture cached with all its tokens."""

    def __init__(self, tokens: Any) -> None:
        self.tokens = tokens

    def __getitem__(self, row: int) -> Any:
        return self.tokens[row][:1]


class Material:
    """One teacher with the data sets that its pictures come from.

    Args:
        recipe: a ``distill`` recipe; its student is built anew for every run.
        teacher: folder or Hub id.
        captions: data set that is distilled on.
        cache: folder of the feature caches.
    """

    def __init__(self, recipe: Recipe, teacher: str, captions: str, cache: Path) -> None:
        self.recipe, self.captions, self.cache = recipe, captions, cache
        self.teacher, self.teacher_processor = load_teacher(teacher)
        self._splits: dict[tuple[str, str, int | None], RecordDataset] = {}
        self._tokens: dict[str, Any] = {}

    def student(self, seed: int, **changes: Any) -> tuple[Any, Any]:
        """A new student with its processor; W_e has orthonormal columns or rows, and W'_e W_e is the identity.

        Args:
            seed: of what starts random.
            **changes: fields of the recipe's student that differ.
        """
        spec = dataclasses.replace(self.recipe.student, **changes)
        torch.manual_seed(seed)
        student, processor = build_student(spec, self.teacher, self.teacher_processor, self.recipe.tasks)
        with torch.no_grad():
            projection = torch.nn.init.orthogonal_(student.vlkd.text_projection.weight)
            student.text_to_decoder.weight.copy_(projection.t())
        return student, processor

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the teacher."""
        return weights_fingerprint(self.teacher)

    @cached_property
    def rows(self) -> CaptionRows:
        """Every training caption."""
        return CaptionRows(self.records(self.captions, "train"))

    @cached_property
    def text_vectors(self) -> np.ndarray:
        """t_eos of every training caption, shape ``(rows, d1)``."""
        return teacher_text_vectors(self.teacher, self.teacher_processor, self.rows.texts, self.cache)

    @cached_property
    def text_means(self) -> Any:
        """Mean encoder output of every training caption before anything was trained, for the start of W_e."""
        return encoder_means(*self.student(0), self.rows.texts, self.cache)["vectors"]

    def records(self, data: str, split: str, limit: int | None = None) -> RecordDataset:
        """A split, read once."""
        key = data, split, limit
        if key not in self._splits:
            self._splits[key] = load_records(data, split, limit)
        return self._splits[key]

    def tokens(self, records: RecordDataset) -> Any:
        """V of every picture with all its tokens, cached."""
        if records.fingerprint not in self._tokens:
            student, processor = self.student(0, image_features="all_tokens")
            self._tokens[records.fingerprint] = cached_picture_tokens(student, processor, records, self.cache)["tokens"]
        return self._tokens[records.fingerprint]

    def held_out(self, data: str, split: str, limit: int | None) -> HeldOut:
        """A test split with its tokens, and the training questions where there are any."""
        records = self.records(data, split, limit)
        asked = [item for record in self.records(data, "train") for item in record.qa]
        return HeldOut(records.records, self.tokens(records), asked)


def pictures_of(records: Sequence[Any], share: float, seed: int) -> list[int]:
    """Numbers of a uniform sample of pictures, one at least (section 3.3)."""
    count = max(1, round(share * len(records)))
    return sorted(np.random.default_rng(seed).permutation(len(records))[:count].tolist())


def rows_of(rows: CaptionRows, pictures: Sequence[int]) -> tuple[CaptionRows, np.ndarray]:
    """The captions of some pictures, and their numbers among all."""
    chosen = np.flatnonzero(np.isin(rows.images, list(pictures)))
    smaller = copy.copy(rows)
    smaller.texts = [rows.texts[row] for row in chosen]
    smaller.images = [rows.images[row] for row in chosen]
    return smaller, chosen


def picture_source(tokens: Any, image_features: str) -> PictureSource:
    """Cached pictures as a student with these ``image_features`` sees them."""
    return PictureSource(tokens if image_features == "all_tokens" else FirstToken(tokens))  # type: ignore[arg-type]
