"""Batches of BERT-like and BART-like tokenizers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from vlkd_training.data.collate import AlignCollator, CaptionCollator, PictureSource, TaskCollator

WORDS = "a red blue circle square two".split()
TEXTS = ["a red circle", "two"]


def make_tokenizer(special: dict[str, str]) -> PreTrainedTokenizerFast:
    names = [*special.values(), *WORDS]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(names)}, unk_token=names[1]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


BERT = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
BART = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}


@pytest.fixture(params=["bert", "bart", "roberta"])
def tokenizer(request) -> PreTrainedTokenizerFast:
    """BERT has cls/sep alone, a plain BART bos/eos alone, the real BART both under the same ids."""
    if request.param == "roberta":
        made = make_tokenizer(BART)
        made.cls_token, made.sep_token = made.bos_token, made.eos_token
        return made
    return make_tokenizer(BERT if request.param == "bert" else BART)


def caption_rows() -> SimpleNamespace:
    return SimpleNamespace(texts=TEXTS, images=[1, 0])


TOKENS = np.arange(2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
VECTORS = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_caption_batch(tokenizer) -> None:
    """Ids 2 and 3 are start and end in every layout here, 0 the padding, 4 the mask, words from 5."""
    collator = CaptionCollator(caption_rows(), tokenizer, PictureSource(TOKENS), VECTORS)
    batch = collator([0, 1])
    keeps_start = tokenizer.bos_token is not None
    long, short = [5, 6, 8, 3], [10, 3, -100, -100]
    if keeps_start:
        long, short = [2, *long], [2, *short]
    assert batch["labels"].tolist() == [long, short]
    assert batch["clean_input_ids"].tolist() == [[2, 5, 6, 8, 3], [2, 10, 3, 0, 0]]
    assert batch["clean_attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch["image_ids"].tolist() == [1, 0]
    assert torch.equal(batch["image_tokens"], torch.from_numpy(TOKENS[[1, 0]]).float())
    assert torch.equal(batch["teacher_text_embeds"], torch.from_numpy(VECTORS))
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        real = ids[mask.bool()].tolist()
        assert (real[0], real[-1]) == (2, 3)
        assert 4 in real
        assert ids[~mask.bool()].eq(0).all()
    assert 10 not in batch["input_ids"][1]  # the only word of a text of one is always covered


def test_text_only_batch(tokenizer) -> None:
    """Text infilling sees neither pictures nor the teacher."""
    batch = CaptionCollator(caption_rows(), tokenizer, None, None)([0, 1])
    assert set(batch) == {"labels", "input_ids", "attention_mask"}


def test_mask_ratio_of_one_hides_every_word(tokenizer) -> None:
    batch = CaptionCollator(caption_rows(), tokenizer, None, None, mask_ratio=1.0)([0, 1])
    assert set(batch["input_ids"].flatten().tolist()) <= {0, 2, 3, 4}


def test_mask_ratio_of_a_pair_is_drawn_for_each_text() -> None:
    rows = SimpleNamespace(texts=[" ".join(WORDS * 10)] * 64, images=[0] * 64)
    collator = CaptionCollator(rows, make_tokenizer(BERT), None, None, mask_ratio=(0.1, 0.9), max_length=64)
    torch.manual_seed(0)
    kept = (collator(list(range(64)))["input_ids"] > 4).sum(dim=1) / 60
    assert kept.min() < 0.3 < 0.7 < kept.max()
    assert float(kept.mean()) == pytest.approx(0.5, abs=0.1)


def test_same_torch_seed_same_batch(tokenizer) -> None:
    """Checkpoints keep torch's state; a resumed run must corrupt the texts as the unbroken one did."""
    rows = SimpleNamespace(texts=["a red circle two blue square a two"] * 4, images=[0] * 4)
    collator = CaptionCollator(rows, tokenizer, None, None, mask_ratio=0.5)

    def draw(seed: int) -> list:
        torch.manual_seed(seed)
        return collator([0, 1, 2, 3])["input_ids"].tolist()

    assert draw(3) == draw(3)
    assert len({str(draw(seed)) for seed in range(6)}) > 1


def test_long_texts_are_cut_with_their_special_tokens(tokenizer) -> None:
    rows = SimpleNamespace(texts=["a red circle two blue square"], images=[0])
    batch = CaptionCollator(rows, tokenizer, PictureSource(TOKENS), VECTORS, max_length=5)([0])
    assert batch["clean_input_ids"].tolist() == [[2, 5, 6, 8, 3]]


def test_task_batch(tokenizer) -> None:
    rows = SimpleNamespace(
        prompts=["a", "two red circle"], targets=["blue square", "red"], images=[0, 1], groups=[0, 0], tasks=["vqa"]
    )
    rehearsal = (SimpleNamespace(texts=TEXTS), VECTORS)
    collator = TaskCollator(rows, tokenizer, PictureSource(TOKENS), rehearsal)
    torch.manual_seed(0)
    batch = collator([1, 0])
    assert batch["task"] == "vqa"
    assert batch["input_ids"].tolist() == [[2, 10, 6, 8, 3], [2, 5, 3, 0, 0]]
    start = [2] if tokenizer.bos_token is not None else []
    assert batch["labels"].tolist() == [[*start, 6, 3, -100], [*start, 7, 9, 3]]
    assert torch.equal(batch["image_tokens"], torch.from_numpy(TOKENS[[1, 0]]).float())
    for ids, vector in zip(batch["clean_input_ids"], batch["teacher_text_embeds"], strict=True):
        row = 0 if 5 in ids else 1  # each rehearsed caption comes with its own vector
        assert torch.equal(vector, torch.from_numpy(VECTORS[row]))
    assert "clean_input_ids" not in TaskCollator(rows, tokenizer, PictureSource(TOKENS))([0])


def test_align_batch() -> None:
    """A random view of the right picture."""
    features = np.zeros((2, 2, 3, 4), np.float16)
    for view in range(2):
        for picture in range(2):
            features[view, picture] = 10 * view + picture
    rows = SimpleNamespace(images=[1, 0])
    collator = AlignCollator(rows, features, VECTORS)
    torch.manual_seed(0)
    batches = [collator([1, 0, 1, 0, 0, 1]) for _ in range(4)]
    values = torch.cat([batch["image_backbone_features"][:, 0, 0] for batch in batches])
    pictures = torch.cat([batch["image_ids"] for batch in batches])
    assert torch.equal(values % 10, pictures.float())
    assert set(values.tolist()) == {0.0, 1.0, 10.0, 11.0}
    assert torch.equal(batches[0]["text_pooled"][0], torch.from_numpy(VECTORS[1]))


def test_fresh_pixels_where_nothing_is_cached() -> None:
    record = SimpleNamespace(load_image=lambda: Image.new("RGB", (20, 10), "red"))
    size = {"height": 8, "width": 8}
    source = PictureSource(records=[record], image_processor=CLIPImageProcessorPil(size=size, crop_size=size))
    assert source([0, 0])["pixel_values"].shape == (2, 3, 8, 8)
