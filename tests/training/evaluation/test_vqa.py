"""Accuracy by type, and the blind baseline beside it."""

from __future__ import annotations

import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_training.data.records import QuestionAnswer
from vlkd_training.evaluation.vqa import FrequentAnswers, question_type, vqa_metrics


def ask(question: str, *answers: str, type: str | None = None) -> QuestionAnswer:
    return QuestionAnswer(question, answers, type)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("how many chairs are there?", "count"),
        ("What is the number on the door?", "count"),
        ("what is the colour of the wall?", "color"),
        ("Is the cat black?", "yes/no"),
        ("where is the lamp?", "where"),
        ("what is on the bed?", "what"),
    ],
)
def test_types_from_words(question: str, expected: str) -> None:
    """DAQUAR gives no types."""
    assert question_type(ask(question, "x")) == expected


def test_the_data_s_own_type_wins() -> None:
    """Words only decide where the data is silent."""
    assert question_type(ask("how many?", "2", type="number")) == "number"


TRAIN = [
    ask("is it red?", "yes"),
    ask("is it blue?", "no"),
    ask("is it big?", "No."),
    ask("how many?", "two"),
    ask("how many?", "2"),
    ask("how many?", "3"),
]


def test_metrics_by_hand() -> None:
    """Baseline: no for yes/no, 2 for counts; answers right: 1 of 2, and 1 of 1."""
    asked = [ask("is it red?", "yes"), ask("is it old?", "no"), ask("how many legs?", "4")]
    found = vqa_metrics(["yes", "yes", "four"], asked, FrequentAnswers(TRAIN))
    assert found["accuracy"] == pytest.approx(2 / 3) and found["baseline"] == pytest.approx(1 / 3)
    assert found["by_type"]["yes/no"] == {"accuracy": 0.5, "baseline": 0.5, "n": 2}
    assert found["by_type"]["count"] == {"accuracy": 1.0, "baseline": 0.0, "n": 1}


def test_baseline_guesses() -> None:
    """Equal spellings count together; an unknown type takes the most frequent answer of all."""
    guesses = FrequentAnswers(TRAIN)
    assert guesses.guess(ask("are they?", "?")) == "no"
    assert guesses.guess(ask("how many?", "?")) == "2"
    assert guesses.guess(ask("where?", "?")) in ("no", "2")
    assert FrequentAnswers(TRAIN[::-1]).guess(ask("where?", "?")) == guesses.guess(ask("where?", "?"))


def test_baseline_of_ten_annotators_and_of_sets() -> None:
    """A question counts once, with the answer that most gave; a set counts as a whole and can be met."""
    many = FrequentAnswers([ask("is it?", *["yes"] * 6, *["no"] * 4)])
    assert many.guess(ask("is it?", "?")) == "yes"
    item = ask("what is on the bed?", "pillow", "blanket")
    assert vqa_metrics([""], [item], FrequentAnswers([item]))["baseline"] == 1.0


def test_without_training_questions_the_baseline_is_null() -> None:
    """Null, not zero: zero would flatter the model."""
    assert vqa_metrics(["yes"], TRAIN[:1], None)["baseline"] is None
    with pytest.raises(InvalidInputError, match="training split has none"):
        FrequentAnswers([])


def test_lists_of_different_length_are_refused() -> None:
    """Answers that slipped by one would be scored against the wrong questions."""
    with pytest.raises(InvalidInputError, match="got 1, 6"):
        vqa_metrics(["yes"], TRAIN, None)
