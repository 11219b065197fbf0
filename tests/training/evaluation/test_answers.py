"""The official normalisation, case by case, and the official accuracy."""

from __future__ import annotations

import itertools

import pytest

from vlkd_training.evaluation.answers import answer_accuracy, normalize_answer


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("The  Three dogs.", "3 dogs"),  # case, article, number word, blanks, full stop
        ("none", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),  # the official table ends at ten
        ("1,000", "1000"),  # a comma inside a number goes
        ("red,blue", "red blue"),  # a comma between words becomes a blank
        ("red, blue", "red blue"),  # a comma before a blank goes
        ("black/white", "black white"),
        ("3.5", "3.5"),  # a point inside a number stays
        ("no.", "no"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("its well", "its well"),  # words in their own right
        ("yes\n", "yes"),
        ("t-shirt", "t shirt"),
        ("an apple", "apple"),
        ("a", ""),
    ],
)
def test_normalisation(given: str, expected: str) -> None:
    """Any difference would move published accuracies."""
    assert normalize_answer(given) == expected


@pytest.mark.parametrize("agreeing", range(11))
def test_ten_annotators(agreeing: int) -> None:
    """Against the definition: the mean over subsets of nine of min(1, equal / 3)."""
    answers = ["yes"] * agreeing + [f"other {number}" for number in range(10 - agreeing)]
    subsets = list(itertools.combinations(answers, 9))
    expected = sum(min(1.0, subset.count("yes") / 3) for subset in subsets) / len(subsets)
    assert answer_accuracy("Yes.", answers) == pytest.approx(expected)


def test_known_values_of_ten() -> None:
    """The rule of thumb everyone quotes: 0.3, 0.6, 0.9, 1 for one to four people."""
    for agreeing, value in ((1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0)):
        assert answer_accuracy("yes", ["yes"] * agreeing + ["no"] * (10 - agreeing)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("two", ["2"], 1.0),
        ("2 dogs", ["2"], 0.0),
        ("", ["2"], 0.0),
        ("pillow, blanket", ["blanket", "pillow"], 1.0),  # a set has no order
        ("pillow", ["blanket", "pillow"], 0.0),
        ("pillow, blanket, lamp", ["blanket", "pillow"], 0.0),
        ("pillow, pillow", ["pillow", "pillow"], 0.0),
        ("pillow", ["pillow", "Pillow"], 1.0),
    ],
)
def test_one_answer_and_sets(answer: str, expected: list[str], score: float) -> None:
    """DAQUAR's several answers are a set, to be met exactly."""
    assert answer_accuracy(answer, expected) == score
