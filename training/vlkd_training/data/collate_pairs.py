"""Batches of pictures with a caption each, for the methods that align two unimodal encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from vlkd_training.features import RandomView

from .collate import TextCollator

__all__ = ["CachedPictures", "CachedTexts", "LivePictures", "PairCollator"]


class CachedPictures:
    """A random one of each picture's cached views, as the student and as the teacher see it.

    Args:
        arrays: batch entry -> cached array of shape ``(views, pictures, ...)``; all of the same views.
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = dict(arrays)
        self.views = min(len(array) for array in self.arrays.values())

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return an entry for each array."""
        views = torch.randint(self.views, (len(rows),)).tolist()
        found = {}
        for name, array in self.arrays.items():
            values = np.stack([array[view][row] for view, row in zip(views, rows, strict=True)])
            tensor = torch.from_numpy(values)
            found[name] = tensor if tensor.dtype == torch.int64 else tensor.float()
        return found


class LivePictures:
    """Fresh pixels, randomly cropped and flipped, for an image encoder that trains.

    Args:
        records: the pictures.
        image_processor: makes pixels of them.
        min_area: least area of a crop as a part of the picture; 1 with no flip either is the plain picture.
        augment: whether to crop and flip at all.
    """

    def __init__(self, records: Any, image_processor: Any, min_area: float = 0.9, augment: bool = True) -> None:
        self.records, self.image_processor, self.augment = records, image_processor, augment
        self.min_area = min_area

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return ``pixel_values``, shape ``(batch, 3, H, W)``."""
        pictures = [self.records[row].load_image() for row in rows]
        if self.augment:
            draws = torch.randint(1, 2**31, (len(rows),)).tolist()  # torch's state is in the checkpoint
            pictures = [
                RandomView(draw, self.min_area)(picture, row)
                for draw, picture, row in zip(draws, pictures, rows, strict=True)
            ]
        return {"pixel_values": self.image_processor(pictures, return_tensors="pt")["pixel_values"]}


class CachedTexts:
    """What a frozen text encoder said of every token of every text.

    Args:
        tokens: all texts' tokens one after another, shape ``(tokens, width)``.
        lengths: of each text.
    """

    def __init__(self, tokens: Any, lengths: Sequence[int]) -> None:
        self.tokens, self.lengths = tokens, list(lengths)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return ``text_hidden_states`` and ``attention_mask``, padded."""
        longest = max(self.lengths[row] for row in rows)
        hidden = np.zeros((len(rows), longest, self.tokens.shape[1]), np.float32)
        for place, row in enumerate(rows):
            hidden[place, : self.lengths[row]] = self.tokens[self.starts[row] : self.starts[row + 1]]
        lengths = torch.tensor([self.lengths[row] for row in rows])
        return {
            "text_hidden_states": torch.from_numpy(hidden),
            "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
        }


class PairCollator(TextCollator):
    """A caption and its picture in each row.

    Args:
        rows: a :class:`vlkd_training.rows.CaptionRows`.
        tokenizer: the student's.
        pictures: :class:`CachedPictures` or :class:`LivePictures`.
        texts: :class:`CachedTexts`, where the text encoder is frozen; else the words are given.
        max_length: tokens per text, special ones included.
    """

    def __init__(
        self,
        rows: Any,
        tokenizer: Any,
        pictures: CachedPictures | LivePictures,
        texts: CachedTexts | None = None,
        *,
        max_length: int = 64,
    ) -> None:
        super().__init__(tokenizer, max_length)
        self.rows, self.pictures, self.texts = rows, pictures, texts
        self.tokens = [] if texts is not None else self.bare(rows.texts)

    def __call__(self, batch: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the tensors that :class:`vlkd_training.methods.SmkeMethod` and the student need."""
        images = [self.rows.images[row] for row in batch]
        found: dict[str, torch.Tensor] = {"image_ids": torch.tensor(images), "row": torch.tensor(list(batch))}
        found |= self.pictures(images)
        if self.texts is not None:
            return found | self.texts(batch)
        found["input_ids"], found["attention_mask"] = self.encoder_inputs([self.tokens[row] for row in batch])
        return found
