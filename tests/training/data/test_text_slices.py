"""Texts as slices or one a row, from tables, streams and captions."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import datasets
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vlkd_hub.errors import DataError
from vlkd_training.data.text_slices import TokenCollator, open_text, token_rows

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *(f"w{n}" for n in range(20))])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


TEXTS = ["w0 w1 w2", "w3 w4 w5 w6", "w7 w8 w9"]


def test_slices_are_the_joined_text() -> None:
    """Every slice is [CLS], max_length - 2 tokens, [SEP]; together they are the texts in order, less the rest."""
    rows = token_rows(datasets.Dataset.from_dict({"text": TEXTS}), tokenizer(), max_length=5, slices=True)
    assert all(row["input_ids"][0] == 2 and row["input_ids"][-1] == 3 and len(row["input_ids"]) == 5 for row in rows)
    assert list(chain.from_iterable(row["input_ids"][1:-1] for row in rows)) == list(range(4, 13))


def test_one_text_a_row() -> None:
    rows = token_rows(datasets.Dataset.from_dict({"text": TEXTS}), tokenizer(), max_length=5, slices=False)
    assert [row["input_ids"] for row in rows] == [[2, 4, 5, 6, 3], [2, 7, 8, 9, 3], [2, 11, 12, 13, 3]]


def test_padding_is_masked() -> None:
    batch = TokenCollator(tokenizer())([{"input_ids": [2, 4, 3]}, {"input_ids": [2, 4, 5, 3]}])
    assert batch["input_ids"].tolist() == [[2, 4, 3, 0], [2, 4, 5, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_stream_gives_the_same_slices(tmp_path: Path) -> None:
    """A table read as it comes, without being held."""
    datasets.Dataset.from_dict({"body": TEXTS}).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    whole = token_rows(open_text(tmp_path, "train", column="body"), tokenizer(), 5, slices=True)
    stream = token_rows(open_text(str(tmp_path), "train", column="body", streaming=True), tokenizer(), 5, slices=True)
    assert isinstance(stream, datasets.IterableDataset)
    assert list(stream) == list(whole)


def test_captions_are_texts(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_bytes(b"")
    line = {"file_name": "a.png", "captions": ["a cat", "a dog"]}
    (tmp_path / "train" / "metadata.jsonl").write_text(json.dumps(line))
    assert open_text(tmp_path, "train")["text"][:] == ["a cat", "a dog"]


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not fill one slice of 196"):
        token_rows(datasets.Dataset.from_dict({"text": TEXTS}), tokenizer(), 196, slices=True)
    with pytest.raises(DataError, match="room for a word"):
        token_rows(datasets.Dataset.from_dict({"text": TEXTS}), tokenizer(), 2, slices=True)
    datasets.Dataset.from_dict({"body": TEXTS}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no column 'text'; its columns are body"):
        open_text(tmp_path, "train")
