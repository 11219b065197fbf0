"""What is wrong with a run before it starts, in words."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np

from vlkd_hub.errors import DataError, RecipeError

from .methods import Method

__all__ = ["check_batches", "check_finite", "check_vocabulary"]


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Hold a student's word table against its tokenizer.

    Raises:
        RecipeError: the tokenizer knows words that the table has no row for, or puts pad where the model does not.
    """
    rows, words = model.get_input_embeddings().num_embeddings, len(tokenizer)
    if words > rows:
        raise RecipeError(
            f"The tokenizer knows {words} words and the model's table has {rows} rows: ids from {rows} on would read "
            "past its end. Load the tokenizer that the model was trained with, or resize_token_embeddings first."
        )
    pad = model.config.pad_token_id
    if pad is not None and tokenizer.pad_token_id != pad:
        raise RecipeError(
            f"The tokenizer pads with id {tokenizer.pad_token_id} and the model was made for {pad}; they do not "
            "belong together. Load the tokenizer that the model was saved with."
        )


def check_batches(method: Method, dataset: Any, batch_size: int, processes: int) -> None:
    """Refuse batches that would train nothing.

    Args:
        method: may have a contrast, which needs two rows.
        dataset: rows; one without a length is a stream.
        batch_size: rows per process and step.
        processes: how many train together.

    Raises:
        RecipeError: one row a batch under a contrastive loss, or fewer rows than one batch.
    """
    if method.contrast_outputs and batch_size * processes < 2:
        raise RecipeError(
            f"{type(method).__name__} compares rows of a batch, and per_device_train_batch_size is {batch_size}: a "
            "softmax over one candidate trains nothing. Give at least 2, better 64 or more."
        )
    if isinstance(dataset, Sized) and len(dataset) < batch_size * processes:
        raise RecipeError(
            f"There are {len(dataset)} rows and a step takes {batch_size * processes}, so not one batch would be "
            "whole. Lower per_device_train_batch_size or add data."
        )


def check_finite(
    values: np.ndarray, what: str, rows: int | Sequence[int] | np.ndarray = 0, *, dtype: str = "float32"
) -> None:
    """Refuse teacher outputs that are no numbers, or none of the type in which they are cached.

    Args:
        values: one row an example.
        what: for the message.
        rows: number of the first row, or the number of each.
        dtype: how they are kept; fp16, and int8 with its fp16 scales, end at 65,504.

    Raises:
        DataError: the first rows that hold NaN, infinity or too large a value are named.
    """
    largest = float(np.finfo(np.float16).max) if dtype in ("float16", "int8") else np.inf
    with np.errstate(invalid="ignore"):
        good = np.isfinite(values) & (np.abs(values) <= largest)
    if good.all():
        return
    bad = np.flatnonzero(~good.reshape(len(values), -1).all(axis=1))
    numbers = bad + rows if isinstance(rows, int) else np.asarray(rows)[bad]
    raise DataError(
        f"The {what} hold NaN, infinity or a value that does not fit {dtype} in {len(bad)} rows, the first of them "
        f"{numbers[:5].tolist()}. Look at these pictures or texts and at the teacher's weights."
    )
