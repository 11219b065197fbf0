"""The tokens that caption measures count: Stanford's PTB tokenizer where there is Java, a plain one elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError

__all__ = ["has_java", "tokenize", "tokenize_plain"]

_PUNCTUATION = frozenset("'' ' `` ` \" -lrb- -rrb- -lcb- -rcb- . ? ! , : - -- ... ;".split())
"""Tokens that COCO's captions evaluation drops (the tokens are in lower case)."""
_TIMEOUT_S = 600
_CLITIC = r"n't|'(?:s|m|d|re|ve|ll)"
_PLAIN = re.compile(rf"\d+(?:[.,:/]\d+)*|\w+?(?={_CLITIC}\b)|{_CLITIC}\b|\w+(?:[-&.]\w+)*|\S", re.UNICODE)


def has_java() -> bool:
    """Whether a ``java`` is on the PATH."""
    return shutil.which("java") is not None


def tokenize(sentences: Sequence[str]) -> tuple[list[str], str]:
    """Return each sentence as tokens joined by spaces, in lower case without punctuation, and the tokenizer's name.

    Raises:
        DataError: Java's tokenizer failed.
        MissingDependencyError: pycocoevalcap is not installed.
    """
    lines = [" ".join(sentence.split()) for sentence in sentences]
    if has_java():
        return _tokenize_java(lines), "PTBTokenizer (Stanford CoreNLP 3.4.1, Java)"
    return [tokenize_plain(line) for line in lines], "plain Python tokenizer: no Java on the PATH"


def tokenize_plain(sentence: str) -> str:
    """Tokenize without Java: words, numbers and hyphenated words whole, clitics (``n't``, ``'s``) apart."""
    tokens = _PLAIN.findall(sentence.lower().replace("\u2019", "'"))
    return " ".join(token for token in tokens if token not in _PUNCTUATION)


def _tokenize_java(lines: Sequence[str]) -> list[str]:
    package = require("pycocoevalcap", "train")
    jar = Path(package.__path__[0]) / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        options = ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
        command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", *options, file.name]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=_TIMEOUT_S, check=False)
    found = done.stdout.split("\n")[:-1]
    if done.returncode != 0 or len(found) != len(lines):
        raise DataError(
            f"The PTB tokenizer gave {len(found)} lines for {len(lines)} (exit {done.returncode}): {done.stderr[-300:]}"
        )
    return [" ".join(token for token in line.split() if token not in _PUNCTUATION) for line in found]
