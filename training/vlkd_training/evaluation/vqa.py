"""Accuracy of answers by type of question, beside what the most frequent answer of each type would get."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from vlkd_hub.errors import InvalidInputError
from vlkd_training.data.records import QuestionAnswer
from vlkd_training.evaluation.answers import answer_accuracy, normalize_answer

__all__ = ["FrequentAnswers", "question_type", "vqa_metrics"]

_YES_NO_STARTS = frozenset("is are was were do does did can could has have had will would should isn't aren't".split())


def question_type(item: QuestionAnswer) -> str:
    """The type that the data gives, else ``count``, ``color``, ``yes/no``, or the question's first word."""
    if item.type:
        return item.type
    words = item.question.lower().split()
    if not words:
        return "other"
    text = " ".join(words)
    if "how many" in text or text.startswith(("what number", "what is the number")):
        return "count"
    if "color" in text or "colour" in text:
        return "color"
    return "yes/no" if words[0] in _YES_NO_STARTS else words[0]


class FrequentAnswers:
    """The most frequent answer of each question type, learnt from training data: what a blind guess gives.

    Args:
        questions: of the training split.

    Raises:
        InvalidInputError: there is no question.
    """

    def __init__(self, questions: Iterable[QuestionAnswer]) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for item in questions:
            counts[question_type(item)][_majority(item)] += 1
        if not counts:
            raise InvalidInputError("the baseline needs training questions, and the training split has none.")
        self._by_type = {kind: _top(counter) for kind, counter in counts.items()}
        self._overall = _top(sum(counts.values(), Counter()))

    def guess(self, item: QuestionAnswer) -> str:
        """The guess for a question; of a type not seen in training, the most frequent answer of all."""
        return self._by_type.get(question_type(item), self._overall)


def vqa_metrics(
    answers: Sequence[str], questions: Sequence[QuestionAnswer], baseline: FrequentAnswers | None
) -> dict[str, Any]:
    """Score answers.

    Args:
        answers: one a question.
        questions: with their expected answers.
        baseline: the guesses to compare with; None leaves ``baseline`` null.

    Returns:
        ``accuracy``, ``baseline`` and ``n`` (questions), and the same for each type in ``by_type``.

    Raises:
        InvalidInputError: the two lists differ in length, or are empty.
    """
    if len(answers) != len(questions) or not questions:
        raise InvalidInputError(f"need one answer a question, and one at least; got {len(answers)}, {len(questions)}.")
    right: dict[str, list[float]] = defaultdict(list)
    guessed: dict[str, list[float]] = defaultdict(list)
    for answer, item in zip(answers, questions, strict=True):
        kind = question_type(item)
        right[kind].append(answer_accuracy(answer, item.answers))
        if baseline is not None:
            guessed[kind].append(answer_accuracy(baseline.guess(item), item.answers))
    by_type = {kind: _row(right[kind], guessed[kind]) for kind in sorted(right)}
    return _row(sum(right.values(), []), sum(guessed.values(), [])) | {"by_type": by_type}


def _row(right: list[float], guessed: list[float]) -> dict[str, Any]:
    return {
        "accuracy": sum(right) / len(right),
        "baseline": sum(guessed) / len(guessed) if guessed else None,
        "n": len(right),
    }


def _majority(item: QuestionAnswer) -> str:
    """The answer most annotators gave; of a set, all of them, in one order."""
    wanted = [normalize_answer(answer) for answer in item.answers]
    counts = Counter(wanted)
    top, times = counts.most_common(1)[0]
    return top if times > 1 or len(wanted) == 1 else ", ".join(sorted(counts))


def _top(counter: Counter[str]) -> str:
    """The most frequent; of several, the first in the alphabet, so that the order of the data does not matter."""
    return min(counter, key=lambda answer: (-counter[answer], answer))
