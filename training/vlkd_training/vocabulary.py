"""A smaller vocabulary for a small student: the pieces that its texts use, and every single character.

The word table is the largest part of a small text encoder (all-MiniLM-L6-v2: 11.7M of 22.6M parameters), and a corpus
of captions uses a fifth of it. WordPiece takes the longest piece that fits; as long as every character remains, alone
and as a continuation, a word whose own piece was dropped splits into smaller ones and never becomes the unknown token.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from vlkd_hub.errors import RecipeError

__all__ = ["pieces_to_keep", "trim_embeddings", "trim_tokenizer", "trim_vocabulary"]

_PLACEHOLDER = re.compile(r"\[unused\d+\]")  # rows that BERT's lists reserve and no text reaches
_SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


def trim_vocabulary(text_model: PreTrainedModel, tokenizer: Any, texts: Sequence[str], size: int | None = None) -> Any:
    """Cut the word table of a text encoder, in place, and return the tokenizer that numbers the remaining pieces.

    Args:
        text_model: its input embeddings and the ids in its config change.
        tokenizer: a fast WordPiece tokenizer; left as it is.
        texts: the corpus whose pieces stay. Take training texts only: pieces chosen on a test set know that set.
        size: pieces in all. Beyond what the corpus needs, the first pieces of the old vocabulary fill up, which BERT's
            lists put near the frequent ones. None keeps what is needed and no more.

    Raises:
        RecipeError: the tokenizer is no WordPiece, lacks characters, or ``size`` is too small.
    """
    kept = pieces_to_keep(tokenizer, texts, size)
    trimmed = trim_tokenizer(tokenizer, kept)
    trim_embeddings(text_model, kept)
    return trimmed


def pieces_to_keep(tokenizer: Any, texts: Sequence[str], size: int | None = None) -> list[int]:
    """Return the old ids of the pieces that stay, ascending: special tokens, single characters, the corpus, the fill.

    Raises:
        RecipeError: the tokenizer is no WordPiece, lacks characters, or ``size`` is too small.
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] != "WordPiece":
        raise RecipeError(f"Only a WordPiece vocabulary can be trimmed, got {model['type']}. Leave the option out.")
    prefix, vocabulary = model["continuing_subword_prefix"], model["vocab"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    words = {p: number for p, number in vocabulary.items() if number not in special and not _PLACEHOLDER.fullmatch(p)}
    needed = special | _characters(words, prefix)
    for encoding in tokenizer.backend_tokenizer.encode_batch_fast(list(texts)):
        needed.update(encoding.ids)
    if size is None:
        return sorted(needed)
    if size < len(needed):
        raise RecipeError(f"The corpus, the characters and the special tokens need {len(needed)} pieces, got {size}.")
    return sorted(needed.union(sorted(set(words.values()) - needed)[: size - len(needed)]))


def trim_tokenizer(tokenizer: Any, kept: Sequence[int]) -> Any:
    """Return a copy of a WordPiece tokenizer that knows the pieces ``kept`` (old ids), numbered from 0 in their order.

    Raises:
        RecipeError: a special token is missing from ``kept``.
    """
    renumbered = {old: new for new, old in enumerate(kept)}
    lost = [token for token in tokenizer.all_special_tokens if tokenizer.convert_tokens_to_ids(token) not in renumbered]
    if lost:
        raise RecipeError(f"Special tokens must stay in the vocabulary, {', '.join(lost)} would go.")
    with tempfile.TemporaryDirectory() as work:
        tokenizer.save_pretrained(work)
        file = Path(work) / "tokenizer.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        _renumber(content, renumbered)
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return type(tokenizer).from_pretrained(work)


@torch.no_grad()
def trim_embeddings(text_model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Keep the rows ``kept`` of the input embeddings, in that order, and renumber the token ids of the config.

    Raises:
        RecipeError: a row is not in the table, or comes twice.
    """
    old = text_model.get_input_embeddings()
    if len(set(kept)) != len(kept) or min(kept) < 0 or max(kept) >= old.num_embeddings:
        raise RecipeError(f"Rows must differ and lie between 0 and {old.num_embeddings - 1}.")
    renumbered = {number: row for row, number in enumerate(kept)}
    padding = renumbered.get(old.padding_idx) if old.padding_idx is not None else None
    new = nn.Embedding(len(kept), old.embedding_dim, padding, dtype=old.weight.dtype, device=old.weight.device)
    new.weight.copy_(old.weight[torch.tensor(list(kept), device=old.weight.device)])
    text_model.set_input_embeddings(new)
    config = text_model.config
    config.vocab_size = len(kept)
    for name in _SPECIAL_IDS:
        if getattr(config, name, None) is not None:
            setattr(config, name, renumbered.get(getattr(config, name)))


def _characters(words: dict[str, int], prefix: str) -> set[int]:
    """Ids of every character alone and as a continuation.

    Raises:
        RecipeError: a character of some piece has no piece of its own: words with it could become unknown.
    """
    alphabet = {char for piece in words for char in piece.removeprefix(prefix)}
    lacking = sorted(char for char in alphabet if char not in words or prefix + char not in words)
    if lacking:
        raise RecipeError(
            f"{len(lacking)} characters of the vocabulary have no piece of their own, alone and as a continuation "
            f"({' '.join(lacking[:10])}), so that words could become unknown. Leave the vocabulary whole."
        )
    return {words[form] for char in alphabet for form in (char, prefix + char)}


def _renumber(content: dict[str, Any], renumbered: dict[int, int]) -> None:
    """Replace old ids by new ones everywhere in the content of a ``tokenizer.json``."""
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {p: renumbered[old] for p, old in vocabulary.items() if old in renumbered}
    content["added_tokens"] = [
        token | {"id": renumbered[token["id"]]} for token in content["added_tokens"] if token["id"] in renumbered
    ]
    if content.get("padding"):
        content["padding"]["pad_id"] = renumbered[content["padding"]["pad_id"]]
    for token in (content.get("post_processor") or {}).get("special_tokens", {}).values():
        token["ids"] = [renumbered[old] for old in token["ids"]]
