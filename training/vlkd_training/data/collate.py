"""Batches for the student: pictures or their cached tokens, corrupted texts, prompts, targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vlkd_training.masking import infill_spans

__all__ = ["AlignCollator", "CaptionCollator", "PictureSource", "TaskCollator", "TextCollator"]


class PictureSource:
    """Hands out pictures by row: cached tokens where there are any, else fresh pixels.

    Args:
        tokens: cached V, shape ``(pictures, 1 + n, d1)``.
        records: the pictures, when nothing is cached.
        image_processor: makes pixels of them.
    """

    def __init__(self, tokens: np.ndarray | None = None, records: Any = None, image_processor: Any = None) -> None:
        self.tokens, self.records, self.image_processor = tokens, records, image_processor

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return ``image_tokens`` or ``pixel_values`` of the given pictures."""
        if self.tokens is not None:
            return {"image_tokens": torch.from_numpy(np.stack([self.tokens[row] for row in rows])).float()}
        pictures = [self.records[row].load_image() for row in rows]
        return {"pixel_values": self.image_processor(pictures, return_tensors="pt")["pixel_values"]}


class TextCollator:
    """Padding, targets and randomness shared by the collators."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        # A BERT decoder starts with [CLS] by itself; a BART target begins with <s> after decoder_start </s>.
        self.target_keeps_start = tokenizer.eos_token_id is not None and tokenizer.bos_token_id is not None

    @staticmethod
    def rng() -> np.random.Generator:
        """A generator seeded from torch's state, which checkpoints keep, so that a resumed run repeats itself."""
        return np.random.default_rng(int(torch.randint(2**31, (1,))))

    def bare(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids without special tokens."""
        limit = self.max_length - 2
        return self.tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=limit)["input_ids"]

    def pad(self, rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        longest = max(len(row) for row in rows)
        return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])

    def encoder_inputs(self, bare: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Special tokens around the ids, padded; and the mask."""
        rows = [self._wrap(list(row)) for row in bare]
        ids = self.pad(rows, self.tokenizer.pad_token_id)
        lengths = torch.tensor([len(row) for row in rows])
        return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()

    def _wrap(self, ids: list[int]) -> list[int]:
        start = self.tokenizer.cls_token_id if self.tokenizer.cls_token_id is not None else self.tokenizer.bos_token_id
        end = self.tokenizer.sep_token_id if self.tokenizer.sep_token_id is not None else self.tokenizer.eos_token_id
        return [start, *ids, end]

    def labels(self, bare: Sequence[Sequence[int]]) -> torch.Tensor:
        """Targets with the end token (and BART's start token), -100 where padded."""
        rows = [self._wrap(list(row)) for row in bare]
        return self.pad(rows if self.target_keeps_start else [row[1:] for row in rows], -100)


class CaptionCollator(TextCollator):
    """Batches for VLKD and for text infilling: corrupted caption in, whole caption out.

    Args:
        rows: a :class:`vlkd_training.rows.CaptionRows`.
        tokenizer: the student's.
        pictures: where the pictures come from; ``None`` for text only.
        teacher_vectors: unit vectors of the rows' texts, shape ``(rows, d1)``; ``None`` for text only.
        mask_ratio: share of tokens to mask, or a pair to draw it from uniformly for each text.
        poisson_lambda: mean span length.
        max_length: tokens per text, special ones included.
    """

    def __init__(
        self,
        rows: Any,
        tokenizer: Any,
        pictures: PictureSource | None,
        teacher_vectors: np.ndarray | None,
        *,
        mask_ratio: float | Sequence[float] = 0.15,
        poisson_lambda: float = 3.0,
        max_length: int = 64,
    ) -> None:
        super().__init__(tokenizer, max_length)
        self.rows, self.pictures, self.teacher_vectors = rows, pictures, teacher_vectors
        self.lowest, self.highest = (mask_ratio,) * 2 if isinstance(mask_ratio, int | float) else mask_ratio
        self.poisson_lambda = poisson_lambda
        self.tokens = self.bare(rows.texts)

    def __call__(self, batch: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the tensors that :class:`vlkd_training.methods.VLKDMethod` and the student need."""
        rng = self.rng()
        whole = [self.tokens[row] for row in batch]
        mask, spans = self.tokenizer.mask_token_id, self.poisson_lambda
        ratios = rng.uniform(self.lowest, self.highest, len(batch)).tolist()
        corrupted = [infill_spans(ids, mask, rng, ratio, spans) for ids, ratio in zip(whole, ratios, strict=True)]
        found: dict[str, torch.Tensor] = {"labels": self.labels(whole)}
        found["input_ids"], found["attention_mask"] = self.encoder_inputs(corrupted)
        if self.pictures is not None:
            images = [self.rows.images[row] for row in batch]
            found |= self.pictures(images)
            found["image_ids"] = torch.tensor(images)
        if self.teacher_vectors is not None:
            found["clean_input_ids"], found["clean_attention_mask"] = self.encoder_inputs(whole)
            found["teacher_text_embeds"] = torch.from_numpy(self.teacher_vectors[list(batch)]).float()
        return found


class TaskCollator(TextCollator):
    """Batches for fine-tuning: prompt and picture in, caption or answer out.

    Args:
        rows: a :class:`vlkd_training.rows.TaskRows`.
        tokenizer: the student's.
        pictures: where the pictures come from.
        rehearsal: captions with their teacher vectors, drawn at random beside each batch, to keep the text side in
            the teacher's space; ``None`` leaves that out.
        max_length: tokens per text, special ones included.
    """

    def __init__(
        self,
        rows: Any,
        tokenizer: Any,
        pictures: PictureSource,
        rehearsal: tuple[Any, np.ndarray] | None = None,
        *,
        max_length: int = 64,
    ) -> None:
        super().__init__(tokenizer, max_length)
        self.rows, self.pictures = rows, pictures
        unique = {text: None for text in [*rows.prompts, *rows.targets]}
        ids = dict(zip(unique, self.bare(list(unique)), strict=True))
        self.prompts = [ids[text] for text in rows.prompts]
        self.targets = [ids[text] for text in rows.targets]
        self.rehearsal = rehearsal
        self.rehearsal_tokens = self.bare(rehearsal[0].texts) if rehearsal is not None else []

    def __call__(self, batch: Sequence[int]) -> dict[str, Any]:
        """Return what :class:`vlkd_training.methods.VLKDFinetuneMethod` and the student need: tensors and ``task``."""
        found: dict[str, Any] = {"labels": self.labels([self.targets[row] for row in batch])}
        found["task"] = self.rows.tasks[self.rows.groups[batch[0]]]
        found["input_ids"], found["attention_mask"] = self.encoder_inputs([self.prompts[row] for row in batch])
        found |= self.pictures([self.rows.images[row] for row in batch])
        if self.rehearsal is not None:
            drawn = self.rng().integers(0, len(self.rehearsal_tokens), len(batch))
            clean = [self.rehearsal_tokens[row] for row in drawn]
            found["clean_input_ids"], found["clean_attention_mask"] = self.encoder_inputs(clean)
            found["teacher_text_embeds"] = torch.from_numpy(self.rehearsal[1][drawn]).float()
        return found


class AlignCollator:
    """Batches for alignment from cached towers: a random view of the picture, the caption's pooled vector.

    Args:
        rows: a :class:`vlkd_training.rows.CaptionRows`.
        features: cached backbone features, shape ``(views, pictures, tokens, width)``.
        text_pooled: cached pooled text vectors, shape ``(rows, width)``.
    """

    def __init__(self, rows: Any, features: np.ndarray, text_pooled: np.ndarray) -> None:
        self.rows, self.features, self.text_pooled = rows, features, text_pooled

    def __call__(self, batch: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the tensors that :class:`vlkd_training.methods.AlignMethod` and the dual encoder need."""
        images = [self.rows.images[row] for row in batch]
        views = torch.randint(self.features.shape[0], (len(batch),)).tolist()
        picked = np.stack([self.features[view, image] for view, image in zip(views, images, strict=True)])
        return {
            "image_backbone_features": torch.from_numpy(picked).float(),
            "text_pooled": torch.from_numpy(self.text_pooled[list(batch)]).float(),
            "image_ids": torch.tensor(images),
        }
