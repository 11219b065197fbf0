"""Options out of range are refused before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from vlkd_export.settings import ExportSettings
from vlkd_hub.errors import InvalidInputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 17}, "opset must lie between 18 and 23"),
        ({"opset": 99}, "got 99"),
        ({"atol": 0.0}, "atol"),
        ({"atol": 0.5}, "atol"),
        ({"atol": float("nan")}, "atol"),
        ({"task": "translation"}, "Choose one of auto, image-text-to-text, image-to-text"),
        ({"golden_count": 0}, "never empty"),
        ({"dtype": "bf16"}, "Unknown dtype 'bf16'. Choose one of fp32, fp16"),
        ({"optimize": "O4"}, "Choose one of O0, O1, O2"),
        ({"sequence_length": 1}, "sequence_length"),
        ({"dynamic_axes": False, "dynamic_image_size": True}, "makes no sense"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """A tolerance of half a unit vector would let anything pass."""
    with pytest.raises(InvalidInputError, match=message):
        ExportSettings(**options)
