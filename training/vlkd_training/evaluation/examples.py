"""A few outputs to read beside the numbers: three of the best, of the middle and of the worst, of nine pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlkd_hub._optional import require
from vlkd_training.data.records import QuestionAnswer, Record
from vlkd_training.evaluation.answers import answer_accuracy
from vlkd_training.evaluation.tokenizer import tokenize_plain

__all__ = ["caption_examples", "search_examples", "vqa_examples"]

_EACH = 3
_FOUND = 3


def caption_examples(records: Sequence[Record], written: Sequence[str]) -> list[dict[str, Any]]:
    """Captions ordered by their own CIDEr (over plain tokens: it only orders them)."""
    wanted = {row: [tokenize_plain(text) for text in record.captions] for row, record in enumerate(records)}
    given = {row: [tokenize_plain(text)] for row, text in enumerate(written)}
    _, cider = require("pycocoevalcap.cider.cider", "train").Cider().compute_score(wanted, given)
    return [
        {"id": records[row].id, "caption": written[row], "references": list(records[row].captions)}
        for row in _spread(-np.asarray(cider), [record.id for record in records])
    ]


def search_examples(
    image_embeds: np.ndarray, text_embeds: np.ndarray, texts: Sequence[str], owners: np.ndarray, ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Text searches ordered by the rank of the picture that the text was written for.

    Args:
        image_embeds: unit vectors, shape ``(images, dim)``.
        text_embeds: unit vectors, shape ``(texts, dim)``.
        texts: the queries.
        owners: row of each text's picture, shape ``(texts,)``.
        ids: of the pictures.
    """
    ranks = np.empty(len(texts), np.int64)
    for row, vector in enumerate(text_embeds):
        scores = image_embeds @ vector  # (images,)
        ranks[row] = (scores >= scores[owners[row]]).sum()
    found = []
    for row in _spread(ranks, owners.tolist()):
        best = np.argsort(-(image_embeds @ text_embeds[row]), kind="stable")[:_FOUND]
        hits = [ids[image] for image in best]
        found.append({"text": texts[row], "id": ids[owners[row]], "rank": int(ranks[row]), "found": hits})
    return found


def vqa_examples(ids: Sequence[str], items: Sequence[QuestionAnswer], said: Sequence[str]) -> list[dict[str, Any]]:
    """Questions ordered by accuracy."""
    right = np.array([answer_accuracy(answer, item.answers) for answer, item in zip(said, items, strict=True)])
    return [
        {
            "id": ids[row],
            "question": items[row].question,
            "answer": said[row],
            "answers": list(items[row].answers),
            "accuracy": float(right[row]),
        }
        for row in _spread(-right, ids)
    ]


def _spread(badness: np.ndarray, pictures: Sequence[Any]) -> list[int]:
    """Rows of the best, the middle and the worst, in this order; no picture twice."""
    order = np.argsort(badness, kind="stable").tolist()
    place = {row: at for at, row in enumerate(order)}
    middle = sorted(order, key=lambda row: abs(place[row] - (len(order) - 1) / 2))
    taken: dict[Any, int] = {}
    for _ in range(_EACH):
        for candidates in (order, order[::-1], middle):
            row = next((row for row in candidates if pictures[row] not in taken), None)
            if row is not None:
                taken[pictures[row]] = row
    return sorted(taken.values(), key=place.__getitem__)
