"""``tensorrt/plan.json`` comes back as it was written, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_hub.errors import BundleError
from vlkd_hub.runtime.tensorrt import EnginePlan, ShapeRange, read_plan

PLAN = EnginePlan(precision="fp16", profiles={"g": {"x": ShapeRange((1,), (2,), (3,))}}, checks={"smallest": 1.0})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    (tmp_path / "tensorrt").mkdir()
    PLAN.write(tmp_path)
    return tmp_path


def test_there_and_back(written: Path) -> None:
    assert read_plan(written) == PLAN


@pytest.mark.parametrize(
    "change", [{"precision": "fp4"}, {"format_version": 2}, {"profiles": {"g": {"x": [[1], [0], [3]]}}}, {"checks": 3}]
)
def test_what_cannot_be_used(written: Path, change: dict[str, object]) -> None:
    path = written / "tensorrt" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match="cannot be used"):
        read_plan(written)


def test_a_bundle_without_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="--to tensorrt"):
        read_plan(tmp_path)
