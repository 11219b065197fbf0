"""Caption scores against properties and values that are known."""

from __future__ import annotations

import numpy as np
import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_training.evaluation import java_metrics
from vlkd_training.evaluation.captioning import caption_metrics, derangement
from vlkd_training.evaluation.tokenizer import has_java

PICTURES = [
    "a red circle lies above the small blue square",
    "three green hearts and one yellow star on the sand",
    "two men are cooking a meal in the old kitchen",
    "the dog runs after a ball near some tall trees",
]
needs_java = pytest.mark.skipif(not has_java(), reason="no java on the PATH")


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Java."""
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.usefixtures("no_java")
def test_a_caption_equal_to_its_only_reference_scores_full() -> None:
    """CIDEr of identity is 10 on its own scale (1,000 of the usual one), BLEU and ROUGE are 1; shuffled it is 0."""
    found = caption_metrics(PICTURES, [[text] for text in PICTURES])
    assert found["cider"] == pytest.approx(10.0)
    assert found["bleu4"] == pytest.approx(1.0) and found["rouge_l"] == pytest.approx(1.0)
    assert found["cider_shuffled"] < 0.5


@pytest.mark.usefixtures("no_java")
def test_case_and_punctuation_do_not_count() -> None:
    """The tokenizer takes both away."""
    plain = caption_metrics(PICTURES, [[text] for text in PICTURES[::-1]])
    shouted = caption_metrics([f"{text.upper()} ." for text in PICTURES], [[f"{text}!"] for text in PICTURES[::-1]])
    assert {key: plain[key] for key in ("cider", "bleu4")} == {key: shouted[key] for key in ("cider", "bleu4")}


@pytest.mark.usefixtures("no_java")
def test_what_cannot_run_is_null_with_a_reason() -> None:
    """A gap must be named, never silent, and never a zero."""
    found = caption_metrics(PICTURES, [[text] for text in PICTURES])
    assert found["meteor"] is None and found["spice"] is None
    assert "java" in found["notes"]["meteor"] and "java" in found["notes"]["spice"]
    assert "Python" in found["notes"]["tokenizer"]


@needs_java
def test_java_scores_and_names_its_tokenizer() -> None:
    """METEOR of identity is 1; SPICE is there or explains itself."""
    found = caption_metrics(PICTURES, [[text] for text in PICTURES])
    assert found["meteor"] == pytest.approx(1.0) and "meteor" not in found["notes"]
    assert "PTBTokenizer" in found["notes"]["tokenizer"]
    assert (found["spice"] is None) == ("spice" in found["notes"])
    assert found["cider"] == pytest.approx(10.0)


@needs_java
def test_meteor_that_dies_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JVM without memory must not end the evaluation."""
    package = java_metrics.require("pycocoevalcap.meteor.meteor", "train")
    monkeypatch.setattr(package, "METEOR_JAR", "absent.jar")
    score, reason = java_metrics.meteor_score({"0": ["a"]}, {"0": ["a"]})
    assert score is None and reason is not None and "METEOR" in reason


@pytest.mark.parametrize("count", [2, 3, 50])
def test_no_picture_keeps_its_caption(count: int) -> None:
    """One fixed point would raise the shuffled score; the seed decides the order."""
    order = derangement(count, 0)
    assert sorted(order) == list(range(count)) and not (order == np.arange(count)).any()
    assert (derangement(count, 0) == order).all()


def test_the_seed_changes_the_exchange() -> None:
    """Otherwise it would be no seed."""
    assert (derangement(50, 0) != derangement(50, 1)).any()


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        (["a"], [["a"]], "two pictures or more"),
        (["a", "b"], [["a"]], "got 2 captions, 1 pictures"),
        (["a", "b"], [["a"], []], "picture 1 has no reference"),
    ],
)
def test_what_cannot_be_scored_is_refused(captions: list[str], references: list[list[str]], message: str) -> None:
    """CIDEr over one picture is zero by definition, which would read as a bad caption."""
    with pytest.raises(InvalidInputError, match=message):
        caption_metrics(captions, references)
    with pytest.raises(InvalidInputError, match="cannot change places"):
        derangement(1, 0)
