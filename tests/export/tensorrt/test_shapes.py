"""Profiles from what a bundle allows and from what was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from vlkd_export.golden import TEXTS, drawn_pictures
from vlkd_export.tensorrt.decoder_graphs import split_decoder
from vlkd_export.tensorrt.shapes import Limits, Recorder, limits_of, record_calls, suggest_profiles
from vlkd_hub.errors import InvalidInputError


class Echo:
    def run(self, names: object, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(feeds.values())


def test_a_recorder_notes_and_passes_on() -> None:
    recorder = Recorder(Echo())
    for rows in range(100):
        feeds = {"x": np.zeros((rows, 2))}
        assert recorder.run(None, feeds)[0] is feeds["x"]
    assert len(recorder.shapes) == 100 and recorder.shapes[7] == {"x": (7, 2)}
    assert len(recorder.calls) == 64, "values of every call would fill the memory"


def test_limits_come_from_the_bundle(tiny_bundle: Path) -> None:
    """Its tokenizer cuts at 64, its pictures have 5 states, its captions 32 tokens."""
    assert limits_of(tiny_bundle, 6) == Limits(batch=6, text=64, context=69, past=32)


def test_profiles_hold_all_that_was_recorded(tiny_bundle: Path, tiny_graphs: dict[str, onnx.ModelProto]) -> None:
    graphs = {name: model for name, model in tiny_graphs.items() if name != "decoder"}
    graphs |= split_decoder(tiny_graphs["decoder"])
    recorded = record_calls(tiny_bundle, drawn_pictures()[:3], TEXTS[:2])
    assert set(recorded) == set(graphs)
    profiles = suggest_profiles(graphs, limits_of(tiny_bundle, 6), {name: r.shapes for name, r in recorded.items()})
    for name, recorder in recorded.items():
        assert recorder.shapes
        for shapes in recorder.shapes:
            assert set(shapes) == set(profiles[name])
            assert all(profiles[name][key].holds(shape) for key, shape in shapes.items()), name
    past = profiles["decoder_next"]["past_key.0"]
    assert (past.min[2], past.max[2]) == (1, 32)
    assert profiles["image_encoder"]["pixel_values"].max == (6, 3, 32, 32)


def test_what_is_larger_than_the_limits_is_told(tiny_graphs: dict[str, onnx.ModelProto]) -> None:
    graphs = {"image_encoder": tiny_graphs["image_encoder"]}
    seen = {"image_encoder": [{"pixel_values": (9, 3, 32, 32)}]}
    with pytest.raises(InvalidInputError, match="Raise the limit"):
        suggest_profiles(graphs, Limits(batch=8), seen)
    with pytest.raises(InvalidInputError, match="No call"):
        suggest_profiles(graphs, Limits(), {})
    with pytest.raises(InvalidInputError, match="batch must be 1 or more"):
        Limits(batch=0)
