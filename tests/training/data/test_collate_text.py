from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vlkd_hub.inference import load_processor
from vlkd_training.data.collate_text import LabelCollator, SummaryCollator


@pytest.fixture
def tokenizer(tiny_student: Path) -> Any:
    """[PAD] 0, [CLS] 2, [SEP] 3; red 17, blue 18, circle 19, square 20."""
    return load_processor(tiny_student).tokenizer


def ids(tokenizer: Any, *words: str) -> list[int]:
    return tokenizer.convert_tokens_to_ids(list(words))


def test_texts_and_labels(tokenizer: Any) -> None:
    """Padded on the right whatever the tokenizer is used to; labels are numbers, or scores."""
    tokenizer.padding_side = "left"
    rows = [{"text": "red circle", "text_pair": None, "label": 1}, {"text": "blue", "text_pair": None, "label": 0}]
    batch = LabelCollator(tokenizer)(rows)
    assert batch["input_ids"][0].tolist() == ids(tokenizer, "[CLS]", "red", "circle", "[SEP]")
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["labels"].dtype == torch.int64 and batch["labels"].tolist() == [1, 0]
    assert LabelCollator(tokenizer, regression=True)(rows)["labels"].dtype == torch.float32
    assert LabelCollator(tokenizer, max_length=3)(rows)["input_ids"].shape == (2, 3)


def test_both_texts_of_a_pair_are_read(tokenizer: Any) -> None:
    """Joined by the tokenizer's own rule."""
    rows = [{"text": "red circle", "text_pair": "blue square", "label": 0}]
    found = LabelCollator(tokenizer)(rows)["input_ids"][0].tolist()
    assert found == tokenizer("red circle", "blue square")["input_ids"]
    assert set(ids(tokenizer, "red", "circle", "blue", "square")) <= set(found)


def test_a_long_document_loses_its_end(tokenizer: Any) -> None:
    """Document and summary have limits of their own; a target has no start token but an end."""
    rows = [{"document": "red circle " * 9, "summary": "two blue circle"}, {"document": "one", "summary": "one"}]
    batch = SummaryCollator(tokenizer, max_length=5, max_target_length=4)(rows)
    assert batch["input_ids"][0].tolist() == ids(tokenizer, "[CLS]", "red", "circle", "red", "[SEP]")
    assert batch["attention_mask"][1].tolist() == [1, 1, 1, 0, 0]
    assert batch["labels"].tolist() == [ids(tokenizer, "two", "blue", "[SEP]"), [*ids(tokenizer, "one", "[SEP]"), -100]]
    assert batch["task"] == "summary"
