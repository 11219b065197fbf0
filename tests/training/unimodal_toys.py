"""A text encoder, a recipe and pictures small enough to train in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

__all__ = ["TIMM", "pictures", "recipe", "save_bert", "words"]

TIMM = {"img_size": 32, "embed_dim": 16, "depth": 4, "num_heads": 2}
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = 20


def words(seed: int, count: int = 6) -> str:
    """A text of the toy vocabulary."""
    return " ".join(f"w{n}" for n in np.random.default_rng(seed).integers(0, _WORDS, count))


def save_bert(folder: Path) -> str:
    """Write a BERT of four layers with its tokenizer; return its path."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    steady = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}
    BertModel(BertConfig(**sizes, **steady, vocab_size=25, pad_token_id=0)).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate([*_SPECIAL, *(f"w{n}" for n in range(_WORDS))])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {f"{word.strip('[]').lower()}_token": word for word in _SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=32, **names).save_pretrained(folder)
    return str(folder)


def pictures(folder: Path, count: int = 8) -> str:
    """Write pictures of two classes, red and blue, with a caption each: splits train and validation."""
    for number, split in enumerate(("train", "validation")):
        (folder / split).mkdir(parents=True)
        lines = []
        for row in range(count):
            colour, name = ((200, 0, 0), "red") if row % 2 else ((0, 0, 200), "blue")
            noise = np.random.default_rng([number, row]).integers(0, 50, (36, 40, 3))
            Image.fromarray((noise + np.array(colour)).astype(np.uint8)).save(folder / split / f"{row}.png")
            lines.append({"file_name": f"{row}.png", "class": name, "captions": [words(100 * number + row)]})
        (folder / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(folder)


def recipe(folder: Path, name: str, **content: Any) -> Path:
    """Write a recipe with one phase of a few steps."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"source": "ours: a test", **content}))
    return file
