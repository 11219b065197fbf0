"""A task of GLUE: what a text classifier trains on and how it is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from vlkd_hub.errors import RecipeError

from .classify_images import Work
from .data.glue import GLUE_TASKS, glue_task, load_glue
from .encoders import text_encoder_path
from .evaluation.text import label_scores
from .image_batches import NumberedRows
from .phases import check_options
from .recipe import Phase

__all__ = ["text_work"]

_BATCH = 64


def text_work(phase: Phase, data: str, model_path: str, task: str | None, split: str, limit: int | None) -> Work:
    """Build a classifier of texts: the head of transformers on a student of any text encoder.

    Raises:
        RecipeError: no task is named, or an unknown option.
        DataError: the task or its data is not there.
    """
    check_options(phase.data, ("max_length",), f"data options of {phase.method!r}")
    if task is None:
        raise RecipeError(f"Name the task of GLUE with --task: {', '.join(GLUE_TASKS)}.")
    known = glue_task(task)
    rows = load_glue(data, task, split, limit)
    held = {name: load_glue(data, task, name, limit) for name in known.evaluation_splits}
    path = text_encoder_path(model_path)
    names = {"id2label": dict(enumerate(known.labels))} if known.labels else {}
    model = AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=known.num_labels, use_safetensors=True, trust_remote_code=False, **names
    )
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    tokenizer.model_input_names = _inputs_of(model)
    length = phase.data.get("max_length", 128)

    def score() -> dict[str, float]:
        found: dict[str, float] = {}
        for name, table in held.items():
            logits = _logits(model, _LabelledTexts(table, tokenizer, length))
            scores = label_scores(known, logits, table["label"][:])
            found |= {f"{name}/{measure}": value for measure, value in scores.items()}
        return found

    collator = _LabelledTexts(rows, tokenizer, length)
    return Work(model, tokenizer, NumberedRows(rows), collator, score, encoder=model.base_model_prefix)


def _inputs_of(model: Any) -> list[str]:
    """Which of two texts a token is in is told to models that have an embedding for it."""
    pairs = getattr(model.config, "type_vocab_size", 0) > 1
    return ["input_ids", "attention_mask", *(["token_type_ids"] if pairs else [])]


class _LabelledTexts:
    """Batches of a table with ``text``, ``text_pair`` (None where a text stands alone) and ``label``."""

    def __init__(self, table: Any, tokenizer: Any, max_length: int) -> None:
        self.table, self.tokenizer, self.max_length = table, tokenizer, max_length

    def __len__(self) -> int:
        return len(self.table)

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the tokens, padded to the longest, and ``labels``."""
        taken = self.table[list(rows)]
        pair = None if taken["text_pair"][0] is None else taken["text_pair"]
        options = {"padding": True, "truncation": True, "max_length": self.max_length, "return_tensors": "pt"}
        batch = dict(self.tokenizer(taken["text"], pair, **options))
        return batch | {"labels": torch.tensor(taken["label"])}


def _logits(model: Any, texts: _LabelledTexts) -> np.ndarray:
    model.eval()
    found = []
    with torch.inference_mode():
        for at in range(0, len(texts), _BATCH):
            batch = texts(range(at, min(at + _BATCH, len(texts))))
            batch.pop("labels")
            found.append(model(**{name: value.to(model.device) for name, value in batch.items()}).logits.float().cpu())
    return torch.cat(found).numpy()
