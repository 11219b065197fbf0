"""Words and patches by hand: which pieces make a word, which patch is best, what of the picture is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime import ImageProcessor, OnnxStudent
from vlkd_hub.runtime.matching import Word, grid_side, match_words, words_of

WHOLE = (0.0, 0.0, 1.0, 1.0)


def word_pieces() -> Tokenizer:
    words = "[PAD] [UNK] [CLS] [SEP] a red circle ##s , .".split()
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_padding(length=12, pad_id=0, pad_token="[PAD]")
    return tokenizer


def test_pieces_are_put_together_and_what_is_no_word_left_out() -> None:
    """Class token, separator and padding belong to no word; an unknown word is one all the same."""
    text = "A  red circles, zebra."
    words = words_of(text, word_pieces().encode(text))
    assert [(word.text, word.tokens) for word in words] == [
        ("A", (1,)),
        ("red", (2,)),
        ("circles", (3, 4)),
        (",", (5,)),
        ("zebra", (6,)),
        (".", (7,)),
    ]
    assert all(text[word.start : word.end] == word.text for word in words)


def test_the_space_before_a_word_is_not_of_it() -> None:
    """Sentence-piece tokenizers count it; a click on the word must not mark it."""
    pieces = [("<unk>", 0.0), ("▁red", -1.0), ("▁circ", -1.0), ("les", -1.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    words = words_of("red circles", tokenizer.encode("red circles"))
    assert [(word.text, word.start, word.end, word.tokens) for word in words] == [
        ("red", 0, 3, (0,)),
        ("circles", 4, 11, (1, 2)),
    ]


def test_words_behind_the_longest_text_are_left_out() -> None:
    tokenizer = word_pieces()
    tokenizer.no_padding()
    tokenizer.enable_truncation(4)
    assert [word.text for word in words_of("a red circle", tokenizer.encode("a red circle"))] == ["a", "red"]


def test_the_best_patches_by_hand() -> None:
    """Mean over the pieces of a word; equation (72) takes the largest; the attention is the row of that patch."""
    patches = np.eye(4, dtype=np.float32)
    tokens = np.array([[9, 9, 9, 9], [0.6, 0.8, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], np.float32)
    attention = np.arange(25, dtype=np.float32).reshape(5, 5)
    words = [Word(text="x", start=0, end=1, tokens=(1,)), Word(text="yz", start=1, end=3, tokens=(1, 2))]
    match = match_words(words, tokens, patches, attention, WHOLE)
    first, second = match.words
    np.testing.assert_allclose(first.scores, [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(second.scores, [[0.3, 0.4], [0, 0.5]])
    assert first.top == ((0, 1), (0, 0), (1, 0), (1, 1)) and second.top[0] == (1, 1)
    np.testing.assert_array_equal(first.attention, [[11, 12], [13, 14]])  # row of patch 1, class token left out
    np.testing.assert_array_equal(second.attention, [[21, 22], [23, 24]])
    assert (match.rows, match.columns) == (2, 2)
    assert match_words(words, tokens, patches, None, WHOLE).words[0].attention is None


def test_five_patches_are_named() -> None:
    patches = np.eye(9, dtype=np.float32)
    tokens = np.linspace(0, 1, 9, dtype=np.float32)[None]
    (word,) = match_words([Word(text="x", start=0, end=1, tokens=(0,))], tokens, patches, None, WHOLE).words
    assert word.top == ((2, 2), (2, 1), (2, 0), (1, 2), (1, 1))


def test_patches_without_a_grid_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="5 patches, which are no square grid"):
        grid_side(5)


@pytest.mark.parametrize(
    ("config", "size", "expected"),
    [
        ({"size": {"shortest_edge": 32}, "crop_size": 32}, (60, 40), (1 / 6, 0, 5 / 6, 1)),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False}, (60, 40), (0, 0, 1, 1)),
        ({"do_resize": False, "crop_size": 32}, (16, 64), (-0.5, 0.25, 1.5, 0.75)),
    ],
)
def test_the_region_is_what_the_crop_shows(
    config: dict[str, object], size: tuple[int, int], expected: tuple[float, ...]
) -> None:
    """Painted white just there, a picture is white all over once it is cropped (black is what was added)."""
    processor = ImageProcessor.from_config({"resample": 0, "do_normalize": False} | config)
    region = processor.region(size)
    np.testing.assert_allclose(region, expected, atol=1 / 32)
    width, height = size
    picture = Image.new("RGB", size)
    box = tuple(round(share * side) for share, side in zip(region, (width, height) * 2, strict=True))
    picture.paste((255, 255, 255), box)
    seen = processor([picture])[0]
    inside = slice(max(0, round(-region[0] * width)), 32 - max(0, round((region[2] - 1) * width)))
    assert seen[:, :, inside].mean() > 0.93  # but for a row of pixels at the rim, where the resize rounds
    black = Image.new("RGB", size, "white")
    black.paste((0, 0, 0), box)
    assert processor([black])[0].mean() < 0.07


def test_a_bundle_without_these_graphs_says_so(tiny_bundle: Path) -> None:
    student = OnnxStudent.from_pretrained(tiny_bundle, threads=1)
    assert not student.matches_words
    with pytest.raises(InvalidInputError, match="no graph 'image_tokens'.*--match-words"):
        student.match_words(Image.new("RGB", (40, 40)), "a red circle")
