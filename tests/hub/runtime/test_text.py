"""Tokens, prompts and decoded texts equal those of transformers, for WordPiece and byte-pair tokenizers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.models import VlkdProcessor
from vlkd_hub.runtime import TextProcessor

TEXTS = [
    "a red circle.",
    "What color is it? It's blue, isn't it!",
    "x",
    "a picture of a dog , and a cat . the end",
    "",
    "  spaces   and\ttabs  ",
    "[MASK] <mask> unknown é 中",
    "very " * 100,
]
TASKS = {
    "caption": {"prompt": "A picture of {masks}.", "num_masks": 6, "max_new_tokens": 32, "num_beams": 1},
    "vqa": {"prompt": "{question} Answer: {masks}.", "num_masks": 2, "max_new_tokens": 8, "num_beams": 1},
}


def wordpiece() -> PreTrainedTokenizerFast:
    """As BERT's: lower case, ``##`` pieces, spaces cleaned up by the decoder."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special))
    ids = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ids)
    names = {f"{word.strip('[]').lower()}_token": word for word in special}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=24, **names)


def byte_pair() -> PreTrainedTokenizerFast:
    """As BART's: bytes, a mask that swallows the space before it."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token=AddedToken("<mask>", lstrip=True, special=True),
        clean_up_tokenization_spaces=True,
    )


@pytest.fixture(scope="module", params=[wordpiece, byte_pair])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[VlkdProcessor, TextProcessor]:
    """A processor of transformers, and ours made from what it saved."""
    tokenizer = request.param()
    folder = tmp_path_factory.mktemp("text")
    tokenizer.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"tasks": TASKS}))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["clean_up_tokenization_spaces"] = bool(tokenizer.clean_up_tokenization_spaces)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return VlkdProcessor(CLIPImageProcessorPil(), tokenizer, tasks=TASKS), TextProcessor.from_pretrained(folder)


def test_tokens(pair: tuple[VlkdProcessor, TextProcessor]) -> None:
    """Ids, padding and the cut at the limit."""
    original, twin = pair
    limit = {"truncation": True} if original.tokenizer.model_max_length < 10_000 else {}
    expected = original.tokenizer(TEXTS, padding=True, return_tensors="np", **limit)
    input_ids, mask = twin(TEXTS)
    np.testing.assert_array_equal(input_ids, expected["input_ids"])
    np.testing.assert_array_equal(mask, expected["attention_mask"])
    assert input_ids.dtype == mask.dtype == np.int64


def test_prompts(pair: tuple[VlkdProcessor, TextProcessor]) -> None:
    """The words before the decoder, a question with braces among them."""
    original, twin = pair
    assert twin.build_prompt("caption") == original.build_prompt("caption")
    for question in ("What is it?", "  Is {this} a {question}?  "):
        assert twin.build_prompt("vqa", question) == original.build_prompt("vqa", question)


def test_decoding(pair: tuple[VlkdProcessor, TextProcessor]) -> None:
    """Special tokens go, spaces before punctuation too where the tokenizer says so, and nothing else changes."""
    original, twin = pair
    random = np.random.RandomState(0)
    rows = [*original.tokenizer(TEXTS)["input_ids"], *random.randint(0, 90, (20, 12)).tolist()]
    assert twin.decode(rows) == original.post_process_image_text_to_text(rows)


def test_what_cannot_be_asked(pair: tuple[VlkdProcessor, TextProcessor]) -> None:
    """Wrong input comes back in words, before any graph runs."""
    _, twin = pair
    with pytest.raises(InvalidInputError, match="no task 'sing'"):
        twin.build_prompt("sing")
    for question in (None, "", "  \n"):
        with pytest.raises(InvalidInputError, match="needs a question"):
            twin.build_prompt("vqa", question)
    with pytest.raises(InvalidInputError, match="non-empty list"):
        twin([])
    with pytest.raises(InvalidInputError, match="list"):
        twin("one text")
    with pytest.raises(InvalidInputError, match="int"):
        twin([3])  # type: ignore[list-item]


def test_broken_files_are_told(tiny_student: Path, tmp_path: Path) -> None:
    """A bundle that lacks what decoding needs is refused with the name of the file."""
    with pytest.raises(BundleError, match="tokenizer.json"):
        TextProcessor.from_pretrained(tmp_path)
    shutil.copy(tiny_student / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(BundleError, match="names no pad_token"):
        TextProcessor.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "[PAD]", "mask_token": {"content": "<gone>"}}')
    (tmp_path / "processor_config.json").write_text('{"tasks": {"caption": {}}}')
    with pytest.raises(BundleError, match="<gone>"):
        TextProcessor.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(BundleError, match="does not hold an object"):
        TextProcessor.from_pretrained(tmp_path)


def test_a_tokenizer_that_contradicts_itself_is_told(tiny_student: Path, tmp_path: Path) -> None:
    """The library panics on such a file when it is used; a panic is no Exception and would end a server's worker."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_student / name, tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text())
    data["post_processor"]["special_tokens"] = {}
    path.write_text(json.dumps(data))
    processor = TextProcessor.from_pretrained(tmp_path)
    with pytest.raises(BundleError, match="tokenizer.json contradicts itself"):
        processor(["a red circle"])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tokenizer_config.json", {"padding_side": "righh"}, "padding_side is 'righh'"),
        ("tokenizer_config.json", {"model_max_length": "512"}, "model_max_length is '512'"),
        ("processor_config.json", {"tasks": {"caption": {"promqt": "A {masks}", "num_masks": 2}}}, "a task is not"),
        ("processor_config.json", {"tasks": {"caption": {"prompt": "A {masks}", "num_masks": 10**9}}}, "a task is not"),
        ("processor_config.json", {"tasks": ["caption"]}, "a task is not"),
    ],
)
def test_settings_out_of_range_are_told(
    name: str, change: dict[str, object], message: str, tiny_student: Path, tmp_path: Path
) -> None:
    """Found by changing single bytes: each was an error of another library, or a billion mask tokens."""
    for file in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        shutil.copy(tiny_student / file, tmp_path)
    settings = {"pad_token": "[PAD]", "mask_token": "[MASK]"} if name == "tokenizer_config.json" else {}
    told = json.loads((tmp_path / name).read_text()) | settings | change
    (tmp_path / name).write_text(json.dumps(told))
    with pytest.raises(BundleError, match=message):
        TextProcessor.from_pretrained(tmp_path)
