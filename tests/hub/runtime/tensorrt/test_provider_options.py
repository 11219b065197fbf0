"""Options of onnxruntime's TensorRT provider: a cache that is found again, and the shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.tensorrt import ShapeRange, tensorrt_provider_options

PROFILE = {"b": ShapeRange((1, 3), (2, 3), (8, 3)), "a": ShapeRange((1,), (2,), (8,))}

DOCUMENTED = {
    "device_id",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_max_workspace_size",
    "trt_profile_max_shapes",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
}
"""Names in onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html that are used."""


def test_the_cache_is_on_and_the_shapes_are_given(tmp_path: Path) -> None:
    name, options = tensorrt_provider_options("decoder", tmp_path, PROFILE)
    assert name == "TensorrtExecutionProvider"
    assert set(options) == DOCUMENTED
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert options["trt_engine_cache_path"] == str(tmp_path / "decoder")
    assert options["trt_profile_min_shapes"] == "a:1,b:1x3"
    assert options["trt_profile_opt_shapes"] == "a:2,b:2x3"
    assert options["trt_profile_max_shapes"] == "a:8,b:8x3"
    assert all(isinstance(value, str) for value in options.values()), "onnxruntime takes strings only"


def test_two_graphs_do_not_share_a_folder(tmp_path: Path) -> None:
    one, other = (tensorrt_provider_options(graph, tmp_path, PROFILE)[1] for graph in ("decoder", "text_encoder"))
    assert one["trt_engine_cache_path"] != other["trt_engine_cache_path"]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no profile"):
        tensorrt_provider_options("decoder", tmp_path, {})
    with pytest.raises(InvalidInputError, match="workspace_bytes"):
        tensorrt_provider_options("decoder", tmp_path, PROFILE, workspace_bytes=0)
