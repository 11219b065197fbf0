"""Words to token ids and back, from ``tokenizer.json`` and ``processor_config.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime.matching import Word, words_of

__all__ = ["TextProcessor"]

MAX_LENGTH = 512
"""Tokens kept where ``tokenizer_config.json`` sets no limit."""
NO_LIMIT = 1_000_000
"""From here on ``model_max_length`` means none (transformers writes 1e30)."""

# What transformers' `clean_up_tokenization` does to the output of a WordPiece tokenizer.
CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True, kw_only=True)
class TextProcessor:
    """Tokenises, builds prompts and decodes as the student's own processor does in torch."""

    tokenizer: Tokenizer
    mask_token: str
    clean_up: bool
    tasks: dict[str, dict[str, Any]]

    @classmethod
    def from_pretrained(cls, directory: str | Path, length: int | None = None) -> TextProcessor:
        """Read the tokenizer and the tasks in ``directory``.

        Args:
            directory: the bundle.
            length: tokens that every text is padded and cut to; None pads to the longest of a batch.

        Raises:
            BundleError: a file is absent or cannot be used.
        """
        directory = Path(directory)
        try:
            tokenizer = _unpanicked(Tokenizer.from_file, str(directory / "tokenizer.json"))
        except Exception as error:  # the tokenizers package raises bare Exception
            raise BundleError(
                f"Cannot read {directory / 'tokenizer.json'}: {error}. Export the student again."
            ) from error
        config = _read_json(directory / "tokenizer_config.json")
        processor_path = directory / "processor_config.json"
        tasks = _read_json(processor_path).get("tasks", {}) if processor_path.exists() else {}
        pad_token = _token(config, "pad_token")
        mask_token = _token(config, "mask_token") if tasks else pad_token  # a dual encoder has no prompts to fill
        pad_id = tokenizer.token_to_id(pad_token)
        if pad_id is None or tokenizer.token_to_id(mask_token) is None:
            raise BundleError(
                f"{directory / 'tokenizer.json'} lacks the pad token {pad_token!r} or the mask token {mask_token!r} "
                "that tokenizer_config.json names. Export the student again."
            )
        _check_settings(directory, config, tasks)
        limit = config.get("model_max_length") or NO_LIMIT
        longest = int(limit) if limit < NO_LIMIT else MAX_LENGTH
        tokenizer.enable_truncation(max_length=min(longest, length or longest))
        tokenizer.enable_padding(
            direction=config.get("padding_side", "right"),
            pad_id=pad_id,
            pad_token=pad_token,
            pad_type_id=0,
            length=length,
        )
        is_bpe = type(tokenizer.model).__name__ == "BPE"
        return cls(
            tokenizer=tokenizer,
            mask_token=mask_token,
            clean_up=bool(config.get("clean_up_tokenization_spaces", False)) and not is_bpe,
            tasks=tasks,
        )

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ``input_ids`` and ``attention_mask``, each of shape ``(batch, length)``, padded to the longest.

        Raises:
            InvalidInputError: no text came, or one is not a string.
        """
        if isinstance(texts, str) or not texts:
            raise InvalidInputError("Expected a non-empty list of texts. Wrap one text in a list.")
        for text in texts:
            if not isinstance(text, str):
                raise InvalidInputError(f"Expected a text, got {type(text).__name__}.")
        encodings = _unpanicked(self.tokenizer.encode_batch, list(texts))
        input_ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        attention_mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return input_ids, attention_mask

    def spell(self, text: str) -> tuple[list[int], list[Word]]:
        """Return the tokens of one text, without padding, and its words among them.

        Raises:
            InvalidInputError: it is not a string.
        """
        if not isinstance(text, str):
            raise InvalidInputError(f"Expected a text, got {type(text).__name__}.")
        encoding = _unpanicked(self.tokenizer.encode, text)
        real = [place for place, seen in enumerate(encoding.attention_mask) if seen]
        words = words_of(text, encoding)
        if real and real[0]:  # padded before the text
            words = [replace(word, tokens=tuple(place - real[0] for place in word.tokens)) for word in words]
        return [encoding.ids[place] for place in real], words

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return tokens of several texts as ``input_ids`` and ``attention_mask``, padded behind to the longest."""
        padding: dict[str, Any] = self.tokenizer.padding or {}  # from_pretrained has enabled it
        shape = (len(rows), padding.get("length") or max(map(len, rows)))
        input_ids = np.full(shape, padding["pad_id"], dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, ids in enumerate(rows):
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return input_ids, mask

    def task(self, name: str) -> dict[str, Any]:
        """Settings of one task of ``processor_config.json``.

        Raises:
            InvalidInputError: the student was not saved with that task.
        """
        if name not in self.tasks:
            raise InvalidInputError(f"This student has no task {name!r}; it has {sorted(self.tasks) or 'none'}.")
        return self.tasks[name]

    def build_prompt(self, task: str, question: str | None = None) -> str:
        """The text that stands before the decoder: the task's sentence with its mask tokens.

        Raises:
            InvalidInputError: the task is unknown, or it asks for a question and none (or an empty one) came.
        """
        settings = self.task(task)
        masks = " ".join([self.mask_token] * settings["num_masks"])
        template = str(settings["prompt"])
        if "{question}" in template and not (question and question.strip()):
            raise InvalidInputError(f"The task {task!r} needs a question, and it is empty. Ask something.")
        # A question may hold braces, so the template is filled by replacement, not by str.format.
        return (question or "").strip().join(template.replace("{masks}", masks).split("{question}"))

    def decode(self, token_ids: Sequence[Sequence[int]]) -> list[str]:
        """Token ids to texts, special tokens left out, spaces cleaned up as the student's tokenizer asks."""
        rows = [list(ids) for ids in token_ids]
        texts = _unpanicked(self.tokenizer.decode_batch, rows, skip_special_tokens=True)
        if self.clean_up:
            for found, wanted in CLEAN_UP:
                texts = [text.replace(found, wanted) for text in texts]
        return [text.strip() for text in texts]


def _check_settings(directory: Path, config: dict[str, Any], tasks: Any) -> None:
    """Hold the values that are used below against what they may be.

    Raises:
        BundleError: a value is of another type or out of range.
    """
    limit, side = config.get("model_max_length"), config.get("padding_side", "right")
    if isinstance(limit, bool) or not (limit is None or (isinstance(limit, int | float) and limit >= 0)):
        raise BundleError(f"{directory / 'tokenizer_config.json'}: model_max_length is {limit!r}. Export again.")
    if side not in ("left", "right"):
        raise BundleError(f"{directory / 'tokenizer_config.json'}: padding_side is {side!r}. Export again.")
    whole = isinstance(tasks, dict) and all(
        isinstance(task, dict)
        and isinstance(task.get("prompt"), str)
        and isinstance(task.get("num_masks"), int)
        and 0 <= task["num_masks"] <= MAX_LENGTH
        for task in tasks.values()
    )
    if not whole:
        raise BundleError(
            f"{directory / 'processor_config.json'}: a task is not a prompt (text) with num_masks (0 to {MAX_LENGTH}). "
            "Export the student again."
        )


def _unpanicked(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call the tokenizer; where its file contradicts itself the library panics, past every ``except Exception``.

    Raises:
        BundleError: it did.
    """
    try:
        return call(*args, **options)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise BundleError(f"tokenizer.json contradicts itself ({error}). Export the student again.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"Cannot read {path}: {error}. Export the student again.") from error
    if not isinstance(data, dict):
        raise BundleError(f"{path} does not hold an object. Export the student again.")
    return data


def _token(config: dict[str, Any], name: str) -> str:
    """A special token of ``tokenizer_config.json``: a string, or an object with its ``content``."""
    value = config.get(name)
    if isinstance(value, dict):
        value = value.get("content")
    if not isinstance(value, str):
        raise BundleError(f"tokenizer_config.json names no {name}. Set it on the tokenizer and export again.")
    return value
