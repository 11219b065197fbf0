"""A slip in an option is told before minutes of work."""

from __future__ import annotations

import pytest

from vlkd_export.quantize.metrics import excess, lost_points, measurable
from vlkd_export.quantize.settings import QuantizeSettings, parse_max_drop
from vlkd_hub.errors import DataError, InvalidInputError


def test_max_drop_is_read() -> None:
    """As it stands in the documentation."""
    assert parse_max_drop("r@10=0.5, cider=1.0,vqa=.5") == {"r@10": 0.5, "cider": 1.0, "vqa": 0.5}


@pytest.mark.parametrize("text", ["", "r@10", "r@10=", "r@10=a", "r@10=1,r@10=2"])
def test_a_malformed_max_drop(text: str) -> None:
    with pytest.raises(InvalidInputError, match="NAME=POINTS"):
        parse_max_drop(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "int2"}, "precision must be fp32 or one of int8"),
        ({"calibration": "kl"}, "calibration must be one of minmax"),
        ({"max_drop": {}}, "max_drop is empty"),
        ({"max_drop": {"bleu": 1.0}}, "got 'bleu'=1.0"),
        ({"max_drop": {"cider": -1.0}}, "points of 0 or more"),
        ({"max_drop": {"cider": float("nan")}}, "points of 0 or more"),
        ({"providers": ("gpu",)}, "Unknown provider 'gpu'"),
        ({"calibration_pictures": 0}, "calibration_pictures must be 1 or more"),
        ({"max_trials": 0}, "max_trials must be 1 or more"),
    ],
)
def test_values_out_of_range(options: dict, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        QuantizeSettings(data="x", **options)


def test_places_are_what_is_installed() -> None:
    """Nothing is asked for that is not there, unless a person names it."""
    assert QuantizeSettings(data="x").places[0] == "cpu"
    assert QuantizeSettings(data="x", providers=("cuda",)).places == ("cuda",)


def test_the_excess_is_of_the_worst_measure() -> None:
    """A gain in one pays for no loss in another; a loss as large as allowed is allowed."""
    limits = {"r@10": 0.5, "cider": 1.0}
    assert excess(lost_points({"r@10": 80.0, "cider": 60.0}, {"r@10": 79.5, "cider": 70.0}), limits) == 0
    assert excess({"r@10": 0.7, "cider": -9.0}, limits) == pytest.approx(0.2)


def test_what_the_data_cannot_measure_is_named() -> None:
    """Silence would read as a pass."""

    class Scorer:
        tasks = ("retrieval", "caption")

    settings = QuantizeSettings(data="x")
    limits, missing = measurable(settings, Scorer(), generates=True)  # type: ignore[arg-type]
    assert set(limits) == {"r@10", "cider"} and missing == ["vqa"]
    limits, missing = measurable(settings, Scorer(), generates=False)  # type: ignore[arg-type]
    assert set(limits) == {"r@10"} and missing == ["cider", "vqa"]
    Scorer.tasks = ("vqa",)  # type: ignore[assignment]
    with pytest.raises(DataError, match="nothing there measures"):
        measurable(settings, Scorer(), generates=False)  # type: ignore[arg-type]
