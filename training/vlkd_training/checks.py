"""What is wrong with a run before it starts, in words."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np

from vlkd_hub.errors import DataError, RecipeError

from .methods import Method

__all__ = ["check_batches", "check_finite", "check_loaded", "check_vocabulary"]


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


def check_loaded(path: Any, found: dict[str, Any], tied: Any = ()) -> None:
    """Refuse a model that was loaded with holes: what is missing would silently be random.

    Args:
        path: for the message.
        found: what ``from_pretrained(..., output_loading_info=True)`` says.
        tied: names of weights that are shared with others and so not saved.

    Raises:
        DataError: weights are missing or have other shapes.
    """
    missing = sorted(set(found.get("missing_keys", ())) - set(tied))
    other = sorted(str(key[0] if isinstance(key, tuple) else key) for key in found.get("mismatched_keys", ()))
    if missing or other:
        holes = ", ".join([*missing, *other][:3])
        raise DataError(
            f"{path} lacks {len(missing) + len(other)} of the model's weights (the first: {holes}); they would start "
            "from random values. The save was cut short or is of another architecture: save or download it again."
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


def check_finite(values: np.ndarray, what: str, first_row: int = 0) -> None:
    """Refuse teacher outputs that are no numbers, before they are cached.

    Raises:
        DataError: the first rows that hold NaN or infinity are named.
    """
    if np.isfinite(values).all():
        return
    rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)) + first_row
    raise DataError(
        f"The {what} hold NaN or infinity in {len(rows)} rows, the first of them {rows[:5].tolist()}. Look at these "
        "pictures or texts and at the teacher's weights; a value over 65,504 does not fit fp16 either."
    )
