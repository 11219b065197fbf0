from __future__ import annotations

from pathlib import Path

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data.open import load_records
from vlkd_training.evaluation import tokenizer
from vlkd_training.evaluation.tokenizer import has_java, tokenize, tokenize_plain

needs_java = pytest.mark.skipif(not has_java(), reason="no java on the PATH")


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("Two dogs, one cat.", "two dogs one cat"),
        ("A caf\u00e9's dog isn't here!", "a caf\u00e9 's dog is n't here"),
        ('A sign reads "open" - 1,000 times', "a sign reads open 1,000 times"),
        ("a t-shirt", "a t-shirt"),
        ("", ""),
    ],
)
def test_plain_tokens(sentence: str, tokens: str) -> None:
    """As the PTB tokenizer splits them, punctuation dropped."""
    assert tokenize_plain(sentence) == tokens


@needs_java
def test_java_keeps_one_line_a_sentence() -> None:
    """An empty caption, a line break inside one, and accents must not move the captions after them."""
    tokens, name = tokenize(["A caf\u00e9's dog", "", "two\u2028 lines\nhere.", "last"])
    assert tokens == ["a caf\u00e9 's dog", "", "two lines here", "last"]
    assert "PTBTokenizer" in name


@needs_java
def test_plain_agrees_with_java_on_real_captions(shared_data: Path) -> None:
    """Scores without Java are only comparable if hardly any caption is cut otherwise."""
    captions = [
        caption for record in load_records(shared_data / "flickr30k", "test", 200) for caption in record.captions
    ]
    tokens, _ = tokenize(captions)
    same = sum(plain == java for plain, java in zip(map(tokenize_plain, captions), tokens, strict=True))
    assert same / len(captions) > 0.99


@needs_java
def test_failure_of_java_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tokenizer that writes nothing would score every caption 0."""
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\necho no memory >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(DataError, match=r"0 lines for 1 \(exit 3\): no memory"):
        tokenize(["a dog"])


def test_without_java_the_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report must show which tokens were counted."""
    monkeypatch.setattr(tokenizer, "has_java", lambda: False)
    assert tokenize(["A dog."]) == (["a dog"], "plain Python tokenizer: no Java on the PATH")
