from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.inference import load_processor
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_training.data.collate import CaptionCollator
from vlkd_training.evaluation.infilling import infilling_perplexity
from vlkd_training.rows import TextRows

TEXTS = ["a red circle", "the blue square is one of two", "how many are there", "what color is the circle"]


@pytest.fixture
def student(tiny_student: Path) -> tuple[Any, Any]:
    torch.manual_seed(0)
    return VlkdForConditionalGeneration.from_pretrained(tiny_student), load_processor(tiny_student).tokenizer


def test_it_is_the_likelihood_of_a_token(student: tuple[Any, Any]) -> None:
    """One batch by hand, every token of the text counted alike; a uniform guess costs the vocabulary."""
    model, tokenizer = student
    found = infilling_perplexity(model, tokenizer, TEXTS, seed=3)
    torch.manual_seed(3)
    batch = CaptionCollator(TextRows(TEXTS), tokenizer, None, None)(range(4))
    with torch.no_grad():
        loss = model.eval()(**batch).loss
    assert found == pytest.approx(math.exp(loss), rel=1e-5)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert infilling_perplexity(model, tokenizer, TEXTS) == pytest.approx(model.config.decoder.vocab_size, rel=1e-4)


def test_equal_seeds_hide_equal_spans(student: tuple[Any, Any]) -> None:
    """So that two students can be compared; what the caller draws afterwards stays as it would have been."""
    model, tokenizer = student
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    first = infilling_perplexity(model, tokenizer, TEXTS, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert infilling_perplexity(model.train(), tokenizer, TEXTS, seed=1) == first
    assert infilling_perplexity(model, tokenizer, TEXTS, seed=2, mask_ratio=0.9) != first


def test_learning_lowers_it(student: tuple[Any, Any]) -> None:
    model, tokenizer = student
    before = infilling_perplexity(model, tokenizer, TEXTS)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    collate = CaptionCollator(TextRows(TEXTS), tokenizer, None, None)
    for _ in range(20):
        model.train()(**collate(range(4))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert infilling_perplexity(model, tokenizer, TEXTS) < 0.7 * before


def test_nothing_to_restore(student: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInputError, match="no texts to restore"):
        infilling_perplexity(*student, [])
