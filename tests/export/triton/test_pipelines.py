"""Ensembles are checked as Triton checks them, before it does."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from vlkd_export.triton.model_config import tensor
from vlkd_export.triton.pipelines import check_ensemble
from vlkd_hub.errors import InvalidInputError

MODELS = {
    "a": {
        "name": "a",
        "max_batch_size": 8,
        "input": [tensor("x", "TYPE_STRING", [1])],
        "output": [tensor("y", "TYPE_FP32", [4])],
    },
    "b": {
        "name": "b",
        "max_batch_size": 0,
        "input": [tensor("y", "TYPE_FP32", [-1, 4])],
        "output": [tensor("z", "TYPE_FP32", [-1])],
    },
}


def ensemble() -> dict[str, Any]:
    """A model that batches, then one that does not: allowed, since the full shapes agree."""

    def step(model: str, given: str, taken: str) -> dict[str, Any]:
        return {
            "model_name": model,
            "input_map": [{"key": given, "value": given}],
            "output_map": [{"key": taken, "value": taken}],
        }

    return {
        "name": "e",
        "max_batch_size": 0,
        "input": [tensor("x", "TYPE_STRING", [-1, 1])],
        "output": [tensor("z", "TYPE_FP32", [-1])],
        "ensemble_scheduling": {"step": [step("a", "x", "y"), step("b", "y", "z")]},
    }


def test_one_that_fits() -> None:
    check_ensemble(ensemble(), MODELS)


def broken(change: str) -> tuple[dict[str, Any], dict[str, Any]]:
    one, models = ensemble(), copy.deepcopy(MODELS)
    steps = one["ensemble_scheduling"]["step"]
    if change == "type":
        models["b"]["input"][0]["data_type"] = "TYPE_INT64"
    elif change == "shape":
        models["b"]["input"][0]["dims"] = [-1, 5]
    elif change == "rank":
        one["input"][0]["dims"] = [1]
    elif change == "batch":
        one["max_batch_size"], one["input"][0]["dims"] = 16, [1]
    elif change == "absent":
        steps[0]["model_name"] = "c"
    elif change == "unfed":
        steps[1]["input_map"] = []
    elif change == "order":
        steps.reverse()
    elif change == "output":
        one["output"][0]["name"] = "w"
    return one, models


@pytest.mark.parametrize("change", ["type", "shape", "rank", "batch", "absent", "unfed", "order", "output"])
def test_what_triton_would_refuse(change: str) -> None:
    with pytest.raises(InvalidInputError, match="ensemble e"):
        check_ensemble(*broken(change))
