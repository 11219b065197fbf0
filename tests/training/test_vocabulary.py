"""A trimmed word table: what stays, what an unknown word becomes, and that nothing else of the encoder changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer, PreTrainedTokenizerFast

from vlkd_hub.errors import RecipeError
from vlkd_hub.runtime.text import TextProcessor
from vlkd_training.encoders import load_text_encoder
from vlkd_training.vocabulary import pieces_to_keep, trim_embeddings, trim_tokenizer, trim_vocabulary

SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz.!")
PIECES = [*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), "the", "dog", "##s", "zebra", "runs", "##ing", "cat"]
VOCABULARY = {piece: number for number, piece in enumerate(dict.fromkeys(PIECES))}
CORPUS = ["The dog runs.", "dogs!"]


def tokenizer(vocabulary: dict[str, int] = VOCABULARY) -> Any:
    return BertTokenizer(vocab=vocabulary, do_lower_case=True)


def encoder(vocabulary: dict[str, int] = VOCABULARY) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def trimmed_pieces(size: int | None = None) -> set[str]:
    whole = tokenizer()
    return set(whole.convert_ids_to_tokens(pieces_to_keep(whole, CORPUS, size)))


def test_corpus_characters_and_special_tokens_stay_and_the_rest_goes() -> None:
    """A special token that goes breaks every text; a word that stays for nothing costs a row."""
    used = {"the", "dog", "##s", "runs"}
    expected = {*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), *used} - {"[unused0]"}
    assert trimmed_pieces() == expected


def test_a_size_is_filled_with_the_first_pieces_and_no_reserved_row() -> None:
    """BERT's lists put frequent pieces first; a reserved row would be a wasted parameter."""
    corpus_only = trimmed_pieces()
    assert trimmed_pieces(len(corpus_only) + 2) == corpus_only | {"zebra", "##ing"}
    assert "[unused0]" not in trimmed_pieces(10_000)


def test_sentences_of_the_corpus_keep_their_pieces_and_their_vectors() -> None:
    """Trimming must not change what the encoder says of any text whose pieces all stay."""
    whole, model = tokenizer(), encoder()
    before = model(**whole(CORPUS, padding=True, return_tensors="pt")).last_hidden_state
    trimmed = trim_vocabulary(model, whole, CORPUS)
    batch = trimmed(CORPUS, padding=True, return_tensors="pt")
    assert trimmed.batch_decode(batch["input_ids"]) == whole.batch_decode(whole(CORPUS, padding=True)["input_ids"])
    assert model.config.vocab_size == len(trimmed) == model.get_input_embeddings().num_embeddings
    assert batch["input_ids"].max() < len(trimmed)
    torch.testing.assert_close(model(**batch).last_hidden_state, before)


@pytest.mark.parametrize("text", ["zebra", "ZEBRA", "Zébra", "dogcatzebras", "running"])
def test_a_dropped_word_splits_into_known_pieces(text: str) -> None:
    """An unknown token says nothing of the word; letters say at least its spelling. Case and accents go as before."""
    trimmed = trim_tokenizer(tokenizer(), pieces_to_keep(tokenizer(), CORPUS))
    pieces = trimmed.tokenize(text)
    assert "[UNK]" not in pieces
    assert "".join(piece.removeprefix("##") for piece in pieces) == text.lower().replace("é", "e")


def test_what_was_unknown_before_stays_unknown() -> None:
    """An emoji has no piece in the whole list either: one unknown token, and its neighbours are left alone."""
    trimmed = trim_tokenizer(tokenizer(), pieces_to_keep(tokenizer(), CORPUS))
    assert trimmed.tokenize("the 🦓 runs") == tokenizer().tokenize("the 🦓 runs") == ["the", "[UNK]", "runs"]
    assert trimmed("🦓")["input_ids"][1] == trimmed.unk_token_id == trimmed.convert_tokens_to_ids("[UNK]")


def test_special_ids_of_tokenizer_and_config_agree() -> None:
    """Padding with the id that [PAD] had before would be a word now."""
    moved = {piece: number for number, piece in enumerate(["the", "zebra", *(p for p in VOCABULARY if p != "the")])}
    whole = tokenizer(moved)
    model = encoder(moved)
    model.config.pad_token_id = whole.pad_token_id
    trimmed = trim_vocabulary(model, whole, CORPUS)
    assert model.config.pad_token_id == trimmed.pad_token_id != whole.pad_token_id
    padded = trimmed(["dog", "the dog runs"], padding=True)
    assert padded["input_ids"][0][-1] == trimmed.pad_token_id
    assert trimmed("dog")["input_ids"] == [trimmed.cls_token_id, trimmed.vocab["dog"], trimmed.sep_token_id]


def test_saved_folder_reads_the_same_in_transformers_and_in_the_server(tmp_path: Path) -> None:
    """The server reads tokenizer.json without transformers; both must number every text alike."""
    trimmed = trim_tokenizer(tokenizer(), pieces_to_keep(tokenizer(), CORPUS))
    trimmed.save_pretrained(tmp_path)
    texts = [*CORPUS, "a zebra 🦓", "CATS", ""]
    loaded = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True)
    assert loaded["input_ids"] == trimmed(texts, padding=True)["input_ids"]
    input_ids, attention_mask = TextProcessor.from_pretrained(tmp_path)(texts)
    assert input_ids.tolist() == loaded["input_ids"]
    assert attention_mask.tolist() == loaded["attention_mask"]


def test_a_tokenizer_that_is_only_a_file_is_renumbered_throughout(tmp_path: Path) -> None:
    """BertTokenizer rebuilds its template by itself; other classes take the ids that tokenizer.json names."""
    backend = tokenizer().backend_tokenizer
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL if token != "[unused0]"}
    whole = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    trim_tokenizer(whole, pieces_to_keep(whole, CORPUS)).save_pretrained(tmp_path)
    found = json.loads((tmp_path / "tokenizer.json").read_text())
    numbers = found["model"]["vocab"]
    template = found["post_processor"]["special_tokens"]
    assert {name: token["ids"] for name, token in template.items()} == {
        name: [numbers[name]] for name in ("[CLS]", "[SEP]")
    }
    assert {token["content"]: token["id"] for token in found["added_tokens"]} == {
        name: numbers[name] for name in SPECIAL if name in numbers
    }
    ids = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("the dog").ids
    assert ids[:4] == [numbers[piece] for piece in ("[CLS]", "the", "dog", "[SEP]")]


def test_padding_saved_in_the_file_is_renumbered(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2's own tokenizer.json pads to 128 with an id of the old list."""
    moved = {piece: number for number, piece in enumerate(dict.fromkeys(["zebra", "cat", *VOCABULARY]))}
    backend = tokenizer(moved).backend_tokenizer
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL if token != "[unused0]"}
    whole = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    whole.backend_tokenizer.enable_padding(pad_id=whole.pad_token_id, pad_token="[PAD]", length=8)
    trim_tokenizer(whole, pieces_to_keep(whole, CORPUS)).save_pretrained(tmp_path)
    found = json.loads((tmp_path / "tokenizer.json").read_text())
    assert found["padding"]["pad_id"] == found["model"]["vocab"]["[PAD]"] == 0 != whole.pad_token_id


def test_what_cannot_be_trimmed_is_refused() -> None:
    """Each of these would train and answer, and answer badly."""
    whole = tokenizer()
    with pytest.raises(RecipeError, match="need 64 pieces, got 10"):
        pieces_to_keep(whole, CORPUS, 10)
    with pytest.raises(RecipeError, match=r"1 characters .* \(z\)"):
        pieces_to_keep(tokenizer({p: n for n, p in enumerate(p for p in VOCABULARY if p != "##z")}), CORPUS)
    with pytest.raises(RecipeError, match=r"Special tokens must stay .*\[UNK\]"):
        trim_tokenizer(whole, [number for number in range(len(whole)) if number != whole.unk_token_id])
    with pytest.raises(RecipeError, match="Rows must differ"):
        trim_embeddings(encoder(), [0, 1, 1])
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "dog": 1}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    with pytest.raises(RecipeError, match="Only a WordPiece"):
        pieces_to_keep(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"), CORPUS)


def test_minilm_trimmed_to_the_training_captions(shared_data: Path) -> None:
    """The real list: how many parameters go, and that no word of other captions becomes unknown."""
    from vlkd_training.data import load_records
    from vlkd_training.rows import CaptionRows

    photos = str(shared_data / "flickr30k")
    captions = CaptionRows(load_records(photos, "train")).texts
    text = load_text_encoder("all-minilm-l6-v2")
    before = sum(parameter.numel() for parameter in text.module.parameters())
    trimmed = trim_vocabulary(text.module, text.tokenizer, captions)
    after = sum(parameter.numel() for parameter in text.module.parameters())
    assert before - after == (30_522 - len(trimmed)) * 384
    assert 5_000 < len(trimmed) < 9_000
    other = [*CaptionRows(load_records(photos, "validation")).texts, "Pneumonoultramicroscopic Qwertyuiop ñandú"]
    unknown = [trimmed.unk_token_id in ids for ids in trimmed(other)["input_ids"]]
    was_unknown = [text.tokenizer.unk_token_id in ids for ids in text.tokenizer(other)["input_ids"]]
    assert unknown == was_unknown


def test_the_small_student_of_photographs_is_half_of_its_encoders(shared_data: Path) -> None:
    """At most 13.3M parameters, half of EfficientNet-Lite0 and MiniLM: its size is the point of the recipe."""
    from vlkd_training.data import load_records
    from vlkd_training.recipe import load_recipe
    from vlkd_training.rows import CaptionRows
    from vlkd_training.smke_build import build_smke

    captions = CaptionRows(load_records(str(shared_data / "flickr30k"), "train")).texts
    model, processor = build_smke(load_recipe("smke-flickr-mini", "smke").student, captions, head_size=1280)
    assert model.without_training_parts().num_parameters() <= 13_300_000
    assert len(processor.tokenizer) == model.config.text_config.vocab_size
