"""The official VQA normalisation of answers and accuracy, for ten annotators, one answer, or a set of answers.

Source: the evaluation rules of the VQA challenge (visualqa.org/evaluation.html), whose exact order of steps is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["ANNOTATORS", "answer_accuracy", "normalize_answer"]

ANNOTATORS = 10
"""So many answers are taken as those of ten people (VQAv2); another number above one is a set (DAQUAR)."""

_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")

# Contractions that lose their apostrophe in answers; the official table in short. Words that are words without it
# ("its", "well", "id", "shell") are not in it.
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's "
    "isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're "
    "there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd "
    "where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're "
    "you've"
).split()
_DOUBLE = (
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've"
).split()


def _restored() -> dict[str, str]:
    table = {word.replace("'", ""): word for word in _CONTRACTIONS}
    for word in _DOUBLE:  # each with one of its two apostrophes left
        first, second, third = word.split("'")
        table[f"{first}{second}'{third}"] = table[f"{first}'{second}{third}"] = word
    return table


_RESTORED = _restored()


def normalize_answer(text: str) -> str:
    """Lower case, no articles, no punctuation, number words as digits, apostrophes restored.

    ``"The  Three dogs."`` becomes ``"3 dogs"``, ``"1,000"`` becomes ``"1000"``.
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    kept = text
    for mark in _PUNCTUATION:
        touches_blank = f"{mark} " in text or f" {mark}" in text
        kept = kept.replace(mark, "" if touches_blank or _COMMA_IN_NUMBER.search(text) else " ")
    words = (_NUMBERS.get(word, word) for word in _PERIOD.sub("", kept).lower().split())
    return " ".join(_RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def answer_accuracy(answer: str, expected: Sequence[str]) -> float:
    """Score one answer.

    - Ten expected answers: the mean, over each way to leave one person out, of ``min(1, equal answers / 3)``.
    - Several others: a set; 1 where the answer, cut at commas, is that set.
    - One: 1 where both are equal.

    All after :func:`normalize_answer`.

    Returns:
        0 to 1.
    """
    wanted = [normalize_answer(item) for item in expected]
    if len(wanted) == ANNOTATORS:
        given = normalize_answer(answer)
        equal = sum(item == given for item in wanted)
        # Leaving out one of those who agree leaves equal - 1, leaving out another person leaves all of them.
        agreeing, other = min(1.0, (equal - 1) / 3), min(1.0, equal / 3)
        return (equal * agreeing + (ANNOTATORS - equal) * other) / ANNOTATORS if equal else 0.0
    if len(set(wanted)) == 1:
        return float(normalize_answer(answer) == wanted[0])
    return float({normalize_answer(item) for item in answer.split(",") if item.strip()} == set(wanted))
