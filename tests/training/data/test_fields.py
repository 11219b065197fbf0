from __future__ import annotations

from typing import Any

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data.fields import record_from_fields
from vlkd_training.data.records import Hypothesis, QuestionAnswer, Record, Region


def _record(fields: dict[str, Any]) -> Record:
    return record_from_fields(fields, "line 7", id="a", image_bytes=b"x")


def test_every_field_arrives() -> None:
    """One line with all there is: what a scenes picture carries, NLVR's sentence and a class."""
    record = _record(
        {
            "captions": ["a red circle"],
            "qa": [{"question": "what color?", "answers": ["red"], "type": "color"}],
            "entailment": [{"hypothesis": "it is red", "label": "entailment"}],
            "sentence": "there is a circle",
            "label": True,
            "regions": [{"box": [1, 2, 3, 4.5], "tag": "red circle"}],
            "class": "circle",
        }
    )
    assert record.captions == ("a red circle",)
    assert record.qa == (QuestionAnswer("what color?", ("red",), "color"),)
    assert record.hypotheses == (Hypothesis("it is red", "entailment"), Hypothesis("there is a circle", "true"))
    assert record.regions == (Region((1, 2, 3, 4.5), "red circle"),)
    assert record.label == "circle"


def test_absent_fields_are_empty() -> None:
    """Most sets have only one kind of text."""
    assert _record({}) == Record("a", image_bytes=b"x")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"captions": []}, "'captions' must be a list of sentences and not empty"),
        ({"captions": "a dog"}, "'captions' must be a list"),
        ({"captions": ["a dog", " "]}, "a caption must be text and not empty"),
        ({"captions": [3]}, "a caption must be text"),
        ({"qa": {}}, "'qa' must be a list, got dict"),
        ({"qa": [{"answers": ["red"]}]}, "a field 'question'"),
        ({"qa": [{"question": "", "answers": ["red"]}]}, "a question must be text and not empty"),
        ({"qa": [{"question": "what?"}]}, "a field 'answers'"),
        ({"qa": [{"question": "what?", "answers": []}]}, "'answers' of 'what\\?' must be a list and not empty"),
        ({"qa": [{"question": "what?", "answers": [""]}]}, "an? answer must be text"),
        ({"sentence": "it is red"}, "a field 'label'"),
        ({"entailment": [{"label": "neutral"}]}, "a field 'hypothesis'"),
        ({"regions": [{"box": [1, 2, 3], "tag": "x"}]}, "'box' must be"),
        ({"regions": [{"box": [3, 2, 3, 4], "tag": "x"}]}, "is empty"),
        ({"regions": [{"box": [1, 2, 3, 4]}]}, "a field 'tag'"),
    ],
)
def test_broken_fields_say_where_and_what(fields: dict[str, Any], message: str) -> None:
    """An empty caption or answer would train the model to say nothing."""
    with pytest.raises(DataError, match=f"line 7: .*{message}"):
        _record(fields)
