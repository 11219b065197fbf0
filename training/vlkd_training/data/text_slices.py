"""Texts of any source as token ids: one text a row, or cut into slices of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError
from vlkd_training.data.hub import open_split
from vlkd_training.data.imagefolder import METADATA
from vlkd_training.data.open import load_records
from vlkd_training.data.scene_records import SCHEME as SCENES
from vlkd_training.data.text_tables import check_texts, open_texts

__all__ = ["TokenCollator", "open_text", "token_rows"]


def open_text(
    data: str | Path, split: str, *, limit: int | None = None, column: str = "text", streaming: bool = False
) -> Any:
    """Open texts: a text table, or the captions of pictures.

    Args:
        data: an id on a hub or a folder of tables (see :func:`vlkd_training.data.text_tables.open_texts`), with the
            texts in ``column``; or a folder with ``<split>/metadata.jsonl``, a COCO file or ``scenes:NUMBER``.
        split: of it.
        limit: only the first texts of a table, or the captions of the first pictures.
        column: where a table has its texts.
        streaming: read a table as it comes; for sets that do not fit the disk.

    Returns:
        A ``datasets.Dataset`` (streaming: ``IterableDataset``) with the column ``text``.

    Raises:
        DataError: nothing is there, or it has no texts.
    """
    datasets = require("datasets", "train")
    if str(data).startswith(SCENES) or Path(data).is_file() or any(Path(data).glob(f"*/{METADATA}")):
        texts = [caption for record in load_records(data, split, limit=limit) for caption in record.captions]
        if not texts:
            raise DataError(f"{data} ({split}) has no captions.")
        return datasets.Dataset.from_dict({"text": texts})
    if streaming:
        rows = open_split(data, split, streaming=True)
        rows = rows if limit is None else rows.take(limit)
        return rows if column == "text" else rows.rename_column(column, "text")
    rows = open_texts(data, split, limit=limit)
    if column not in rows.column_names:
        raise DataError(f"{data} ({split}) has no column {column!r}; its columns are {', '.join(rows.column_names)}.")
    rows = rows.select_columns([column]).rename_columns({} if column == "text" else {column: "text"})
    check_texts(rows, ["text"], f"{data} ({split})")
    return rows


def token_rows(texts: Any, tokenizer: Any, max_length: int, slices: bool) -> Any:
    """Tokenize.

    Args:
        texts: of :func:`open_text`.
        tokenizer: with a class and a separator token.
        max_length: tokens of a row, the class and the separator token among them.
        slices: join the texts and cut them into slices of ``max_length``: no padding, and what is left of each
            thousand texts is dropped. Otherwise one text a row, cut off at ``max_length``.

    Returns:
        The same kind of set, with the one column ``input_ids``.

    Raises:
        DataError: rows too short to hold a word, or texts too few for one slice.
    """
    if max_length < 3:
        raise DataError(f"max_length must leave room for a word between two special tokens, got {max_length}.")
    start, end = _special(tokenizer)
    inner = max_length - 2

    def one_a_row(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": tokenizer(batch["text"], truncation=True, max_length=max_length)["input_ids"]}

    def sliced(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        found = tokenizer(batch["text"], add_special_tokens=False, verbose=False)["input_ids"]
        ids = list(chain.from_iterable(found))
        return {"input_ids": [[start, *ids[at : at + inner], end] for at in range(0, len(ids) - inner + 1, inner)]}

    rows = texts.map(sliced if slices else one_a_row, batched=True, batch_size=1000, remove_columns=texts.column_names)
    if hasattr(rows, "__len__") and not len(rows):
        raise DataError(
            f"The texts do not fill one slice of {max_length} tokens; give more text or a lower max_length."
        )
    return rows


def _special(tokenizer: Any) -> tuple[int, int]:
    start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if start is None or end is None:
        raise DataError("The tokenizer has no class or no separator token, and every row stands between them.")
    return start, end


class TokenCollator:
    """Pads rows of ``input_ids`` to the longest and notes what is padding."""

    def __init__(self, tokenizer: Any) -> None:
        self.pad = tokenizer.pad_token_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return ``input_ids`` and ``attention_mask``, both ``(batch, length)``."""
        ids = [torch.as_tensor(row["input_ids"]) for row in rows]
        mask = [torch.ones_like(row) for row in ids]
        pad = torch.nn.utils.rnn.pad_sequence
        return {
            "input_ids": pad(ids, batch_first=True, padding_value=self.pad),
            "attention_mask": pad(mask, batch_first=True),
        }
