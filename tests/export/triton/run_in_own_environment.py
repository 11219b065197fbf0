"""Run by ``make test-triton`` in an environment with ``tritonclient[grpc]``, whose protobuf is older than ours.

Not collected by the default tests (its name does not begin with ``test_``). Every config is written by the product's
own code from small graphs made here, and parsed by the code that Triton's authors generate from ``model_config.proto``.
"""

from __future__ import annotations

from typing import Any

import google.protobuf
import pytest
from google.protobuf import json_format, text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

from vlkd_export.triton.graphs import graph_config, scores_config, scores_graph
from vlkd_export.triton.model_config import to_pbtxt
from vlkd_export.triton.pipelines import ensemble_configs, preprocess_config, tokenize_config, write_config
from vlkd_export.triton.settings import TritonSettings

SETTINGS = TritonSettings(batch=8, instances=2, device="gpu")
TEXT = {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]}
CROSS = {f"cross_{part}.0": ["batch", 2, "context", 8] for part in ("key", "value")}
PRESENT = {f"present_{part}.0": ["batch", 2, "past + step", 8] for part in ("key", "value")}
PAST = {"past_mask": ["batch", "past"], **{f"past_{part}.0": ["batch", 2, "past", 8] for part in ("key", "value")}}
READ = {"input_ids": ["batch", "step"], "context_mask": ["batch", "context"]}
GRAPHS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "image_encoder": (
        {"pixel_values": ["batch", 3, 32, 32]},
        {"image_embeds": ["batch", 8], "visual_states": ["batch", 5, 16]},
    ),
    "text_encoder": (TEXT, {"text_embeds": ["batch", 8], "text_states": ["batch", "length", 16]}),
    "cross_attention": ({"context": ["batch", "context", 16]}, CROSS),
    "decoder_first": (READ | CROSS, {"logits": ["batch", "step", 30]} | PRESENT),
    "decoder_next": (READ | CROSS | PAST, {"logits": ["batch", "step", 30]} | PRESENT),
}


def graph(inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    """Names, types and shapes are all that a config takes from a graph."""
    infos = [
        [helper.make_tensor_value_info(name, kind(name), shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    return helper.make_model(helper.make_graph([], "g", *infos))


def kind(name: str) -> int:
    return TensorProto.INT64 if name == "input_ids" or name.endswith("_mask") else TensorProto.FLOAT


def configs() -> dict[str, Any]:
    found = {name: graph_config(name, graph(*sides), SETTINGS) for name, sides in GRAPHS.items()}
    found["scores"] = scores_config(8, SETTINGS)
    found["preprocess"] = preprocess_config(32, 32, SETTINGS)
    found["tokenize"] = tokenize_config(SETTINGS)
    found["caption"] = write_config("caption", False, SETTINGS)
    found["vqa"] = write_config("vqa", True, SETTINGS)
    return found | {config["name"]: config for config in ensemble_configs(found, SETTINGS)}


ALL = configs()


def test_all_are_here() -> None:
    assert len(ALL) == 13 and scores_graph(8).graph.node
    assert google.protobuf.__version__


@pytest.mark.parametrize("name", ALL)
def test_tritons_protobuf_reads_it(name: str) -> None:
    """Parsed, and nothing lost: read back, every field is what was written."""
    parsed = text_format.Parse(to_pbtxt(ALL[name]), model_config_pb2.ModelConfig())
    assert parsed.name == name and parsed.max_batch_size == ALL[name]["max_batch_size"]
    read = json_format.MessageToDict(parsed, preserving_proto_field_name=True)
    for side in ("input", "output"):
        for written, found in zip(ALL[name][side], read[side], strict=True):
            assert found["name"] == written["name"] and found["data_type"] == written["data_type"]
            assert [int(size) for size in found["dims"]] == written["dims"]
    if name not in ("embed_image", "embed_text", "similarity"):
        group = parsed.instance_group[0]
        on_gpu = name in GRAPHS or name == "scores"
        assert group.count == 2 and group.kind == (group.KIND_GPU if on_gpu else group.KIND_CPU)
    assert parsed.version_policy.latest.num_versions == 1


def test_what_the_fields_mean_to_triton() -> None:
    """Read through Triton's own message: batching, warm-up, parameters, steps of an ensemble."""
    parse = {name: text_format.Parse(to_pbtxt(config), model_config_pb2.ModelConfig()) for name, config in ALL.items()}
    image = parse["image_encoder"]
    assert list(image.dynamic_batching.preferred_batch_size) == [8]
    assert image.dynamic_batching.max_queue_delay_microseconds == 2000
    assert [sample.batch_size for sample in image.model_warmup] == [1, 8]
    assert image.model_warmup[0].inputs["pixel_values"].random_data
    assert parse["preprocess"].model_warmup[0].inputs["IMAGE"].input_data_file == "IMAGE"
    assert parse["vqa"].parameters["task"].string_value == "vqa"
    assert [item.optional for item in parse["vqa"].input] == [False, False, True, True]
    steps = parse["similarity"].ensemble_scheduling.step
    assert [step.model_name for step in steps] == [
        "preprocess",
        "image_encoder",
        "tokenize",
        "text_encoder",
        "scores",
    ]
    assert dict(steps[1].output_map) == {"image_embeds": "image_embeds"} and steps[0].model_version == -1


def test_a_field_that_triton_does_not_have_is_found() -> None:
    """The parser is the judge: an unknown field is an error, not a silence."""
    with pytest.raises(text_format.ParseError, match="max_batch"):
        text_format.Parse(to_pbtxt({"name": "x", "max_batch": 8}), model_config_pb2.ModelConfig())
