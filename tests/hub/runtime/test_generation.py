"""Greedy, beam search and sampling on numpy choose the tokens that transformers' ``generate`` chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper
from transformers.modeling_outputs import BaseModelOutput

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime import GenerationSettings
from vlkd_hub.runtime.generation import generate
from vlkd_hub.runtime.generation_settings import unsupported_options
from vlkd_hub.runtime.logits import warp

VOCAB, BATCH = 40, 6
TOKENS = {"decoder_start_token_id": 2, "eos_token_id": 3, "pad_token_id": 1}


class TorchDecoder:
    """A step decoder that keeps no cache: it reads every row anew, so only the search can go wrong."""

    def __init__(self, model: BartForConditionalGeneration, context: torch.Tensor) -> None:
        self.model, self.context = model, context
        self.read = torch.zeros((context.shape[0], 0), dtype=torch.int64)

    @torch.no_grad()
    def step(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.read = torch.cat([self.read, torch.from_numpy(np.asarray(token_ids))[:, None]], dim=1)
        hidden = self.model.model.decoder(input_ids=self.read, encoder_hidden_states=self.context).last_hidden_state
        logits = self.model.lm_head(hidden) + self.model.final_logits_bias
        return logits[:, -1].numpy().copy()

    def reorder(self, rows: NDArray[np.int64]) -> None:
        self.read, self.context = self.read[rows], self.context[rows]


@pytest.fixture(scope="module")
def model() -> BartForConditionalGeneration:
    """Weights wide enough that texts differ, end early, and end late."""
    torch.manual_seed(3)
    config = BartConfig(
        vocab_size=VOCAB,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        init_std=0.6,
        forced_eos_token_id=None,
        bos_token_id=0,
        **TOKENS,
    )
    model = BartForConditionalGeneration(config).eval()
    model.final_logits_bias[0, 3] = 1.0
    return model


def both(
    model: BartForConditionalGeneration, options: dict[str, Any], seed: int = 0
) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens of transformers and ours for the same contexts."""
    context = torch.randn(BATCH, 5, 16, generator=torch.Generator().manual_seed(seed)) * 2
    expected = model.generate(
        encoder_outputs=BaseModelOutput(context),
        generation_config=GenerationConfig(do_sample=False, **TOKENS, **options),
    )
    rows = [row[: row.index(3) + 1] if 3 in row else row for row in expected[:, 1:].tolist()]
    settings = GenerationSettings(**TOKENS, **options)
    return rows, generate(TorchDecoder(model, context), BATCH, settings)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 2},
        {"num_beams": 4},
        {"num_beams": 4, "length_penalty": 2.0},
        {"num_beams": 4, "length_penalty": 0.0},
        {"num_beams": 3, "length_penalty": -1.0},
        {"num_beams": 4, "early_stopping": True},
        {"num_beams": 4, "early_stopping": "never", "length_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"num_beams": 3, "no_repeat_ngram_size": 3, "min_length": 6, "length_penalty": 2.0},
        {"min_new_tokens": 7},
        {"forced_bos_token_id": 0, "forced_eos_token_id": 3},
        {"num_beams": 3, "forced_bos_token_id": 0, "forced_eos_token_id": 3, "early_stopping": True},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Unfeasible length constraints:UserWarning")
def test_tokens_equal_those_of_transformers(model: BartForConditionalGeneration, options: dict[str, Any]) -> None:
    """The search decides which text comes out as much as the graph does."""
    for seed in range(4):
        for length in (1, 5, 14):
            expected, found = both(model, {"max_new_tokens": length, **options}, seed)
            assert found == expected


def test_the_texts_differ_in_length(model: BartForConditionalGeneration) -> None:
    """The comparison above would say little of texts that all end at the limit, or all at once."""
    lengths = {len(row) for seed in range(4) for row in both(model, {"max_new_tokens": 14}, seed)[0]}
    assert len(lengths) > 3 and max(lengths) == 14


def test_sampling_is_seeded_and_follows_the_probabilities(model: BartForConditionalGeneration) -> None:
    """The same seed gives the same text; over many draws the share of each token is its probability."""
    context = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0)).expand(3000, -1, -1)
    settings = GenerationSettings(**TOKENS, max_new_tokens=1, do_sample=True, temperature=1.7, top_k=0, seed=5)
    first = generate(TorchDecoder(model, context), 3000, settings)
    assert first == generate(TorchDecoder(model, context), 3000, settings)
    logits = TorchDecoder(model, context[:1]).step(np.array([2])) / 1.7
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    found = np.bincount([row[0] for row in first], minlength=VOCAB) / 3000
    np.testing.assert_allclose(found, expected[0], atol=4 * np.sqrt(0.25 / 3000))


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 1.0), (0, 0.8), (10, 0.3), (50, 0.999), (1, 0.01)])
def test_filters_equal_those_of_transformers(top_k: int, top_p: float) -> None:
    """Which tokens may be drawn at all."""
    scores = torch.randn(8, VOCAB, generator=torch.Generator().manual_seed(1)) * 3
    expected = scores / 0.7
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    settings = GenerationSettings(**TOKENS, do_sample=True, temperature=0.7, top_k=top_k, top_p=top_p)
    np.testing.assert_allclose(warp(scores.numpy(), settings), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 2.5}, "num_beams"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"early_stopping": "always"}, "early_stopping"),
        ({"do_sample": True, "num_beams": 2}, "do_sample"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """A number passed on would come back as an odd text."""
    with pytest.raises(InvalidInputError, match=message):
        GenerationSettings(**TOKENS, **options)


def test_later_sources_win() -> None:
    """The bundle, then the task, then the caller; None says nothing."""
    merged = GenerationSettings.merge(TOKENS, {"num_beams": 4, "prompt": "x"}, {"num_beams": None, "max_new_tokens": 7})
    assert (merged.num_beams, merged.max_new_tokens) == (4, 7)
    with pytest.raises(BundleError, match="eos_token_id"):
        GenerationSettings.merge({"pad_token_id": 0, "decoder_start_token_id": 0})


def test_options_that_are_not_done_are_named() -> None:
    """Only those that would change the text."""
    assert unsupported_options(GenerationConfig().to_dict()) == []
    assert unsupported_options({"repetition_penalty": 1.3, "bad_words_ids": [[4]], "min_p": None}) == [
        "bad_words_ids",
        "repetition_penalty",
    ]
