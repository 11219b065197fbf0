"""What stands around the graphs: Python models before and after them, ensembles that join them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlkd_export.triton.graphs import common
from vlkd_export.triton.model_config import Tensor, tensor
from vlkd_export.triton.settings import TritonSettings
from vlkd_hub.errors import InvalidInputError

__all__ = ["check_ensemble", "ensemble_configs", "preprocess_config", "tokenize_config", "write_config"]

IMAGE = tensor("IMAGE", "TYPE_STRING", [1])
TEXT = tensor("TEXT", "TYPE_STRING", [1])

Config = dict[str, Any]
Step = tuple[str, Mapping[str, str], Mapping[str, str]]
"""Model, its input -> tensor of the ensemble, its output -> tensor of the ensemble."""


def preprocess_config(height: int, width: int, settings: TritonSettings) -> Config:
    """Bytes of a picture -> ``pixel_values``, by the student's one preprocessing."""
    return _python("preprocess", [IMAGE], [tensor("pixel_values", "TYPE_FP32", [3, height, width])], settings)


def tokenize_config(settings: TritonSettings) -> Config:
    """A text -> ``input_ids`` and ``attention_mask``."""
    outputs = [tensor(name, "TYPE_INT64", [-1]) for name in ("input_ids", "attention_mask")]
    return _python("tokenize", [TEXT], outputs, settings)


def write_config(task: str, asks: bool, settings: TritonSettings) -> Config:
    """A picture, and a question where the task asks one -> a text. It calls the graphs itself, token by token."""
    inputs = [IMAGE] + ([tensor("QUESTION", "TYPE_STRING", [1])] if asks else [])
    inputs += [tensor(name, "TYPE_INT32", [1], optional=True) for name in ("NUM_BEAMS", "MAX_NEW_TOKENS")]
    config = _python(task, inputs, [TEXT], settings)
    # Optional inputs may differ from request to request, so requests are not merged; each may hold several rows.
    del config["dynamic_batching"], config["model_warmup"]
    return config | {"parameters": [{"key": "task", "value": {"string_value": task}}]}


def _python(name: str, inputs: list[Tensor], outputs: list[Tensor], settings: TritonSettings) -> Config:
    warm = {
        "name": name,
        "batch_size": 1,
        "inputs": [
            {
                "key": item["name"],
                "value": {k: item[k] for k in ("data_type", "dims")} | {"input_data_file": item["name"]},
            }
            for item in inputs
        ],
    }
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": settings.batch,
        "input": inputs,
        "output": outputs,
        **common(settings, on_device=False),
        "model_warmup": [warm],
    }


def ensemble_configs(configs: Mapping[str, Config], settings: TritonSettings) -> list[Config]:
    """``embed_image``, ``embed_text`` and ``similarity``, which need nothing but the models in a row.

    Args:
        configs: name -> config of every model in the repository.
        settings: what was asked for.
    """
    width = configs["scores"]["input"][0]["dims"][1]
    image: list[Step] = [
        ("preprocess", {"IMAGE": "IMAGE"}, {"pixel_values": "pixel_values"}),
        ("image_encoder", {"pixel_values": "pixel_values"}, {"image_embeds": "image_embeds"}),
    ]
    ids = {"input_ids": "input_ids", "attention_mask": "attention_mask"}
    text: list[Step] = [
        ("tokenize", {"TEXT": "TEXT"}, ids),
        ("text_encoder", ids, {"text_embeds": "text_embeds"}),
    ]
    both = {"image_embeds": "image_embeds", "text_embeds": "text_embeds"}
    found = [
        _ensemble("embed_image", settings.batch, [IMAGE], [tensor("image_embeds", "TYPE_FP32", [width])], image),
        _ensemble("embed_text", settings.batch, [TEXT], [tensor("text_embeds", "TYPE_FP32", [width])], text),
        _ensemble(
            "similarity",
            0,
            [IMAGE | {"dims": [-1, 1]}, TEXT | {"dims": [-1, 1]}],
            [tensor("cosine", "TYPE_FP32", [-1, -1])],
            [*image, *text, ("scores", both, {"cosine": "cosine"})],
        ),
    ]
    for config in found:
        check_ensemble(config, configs)
    return found


def _ensemble(name: str, batch: int, inputs: list[Tensor], outputs: list[Tensor], steps: list[Step]) -> Config:
    return {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": batch,
        "input": inputs,
        "output": outputs,
        "version_policy": {"latest": {"num_versions": 1}},
        "ensemble_scheduling": {
            "step": [
                {
                    "model_name": model,
                    "model_version": -1,
                    "input_map": [{"key": key, "value": value} for key, value in given.items()],
                    "output_map": [{"key": key, "value": value} for key, value in taken.items()],
                }
                for model, given, taken in steps
            ]
        },
    }


def check_ensemble(ensemble: Config, configs: Mapping[str, Config]) -> None:
    """What Triton checks when it loads an ensemble: every input fed, one type and shape for each tensor.

    Source: ``ValidateTensorMapping`` in triton-inference-server/core, ``src/ensemble_scheduler/ensemble_utils.cc``.

    Raises:
        InvalidInputError: Triton would refuse it; the message says why.
    """
    name = ensemble["name"]
    seen: dict[str, tuple[str, list[int]]] = {item["name"]: _shape(item, ensemble) for item in ensemble["input"]}
    for step in ensemble["ensemble_scheduling"]["step"]:
        model = configs.get(step["model_name"])
        if model is None or 0 < model["max_batch_size"] < ensemble["max_batch_size"]:
            raise InvalidInputError(f"The ensemble {name} cannot use {step['model_name']}: absent, or a smaller batch.")
        for side, mapping in (("input", step["input_map"]), ("output", step["output_map"])):
            tensors = {item["name"]: item for item in model[side]}
            mapped = {entry["key"]: entry["value"] for entry in mapping}
            required = {key for key, item in tensors.items() if side == "input" and not item.get("optional")}
            if not required <= mapped.keys() <= tensors.keys():
                raise InvalidInputError(f"The ensemble {name} maps {sorted(mapped)} as {side} of {model['name']}.")
            for key, value in mapped.items():
                if side == "input" and value not in seen:
                    raise InvalidInputError(f"The ensemble {name} reads {value} before anything has made it.")
                _same(name, value, seen.setdefault(value, _shape(tensors[key], model)), _shape(tensors[key], model))
    for item in ensemble["output"]:
        if item["name"] not in seen:
            raise InvalidInputError(f"The ensemble {name} gives {item['name']}, which nothing makes.")
        _same(name, item["name"], seen[item["name"]], _shape(item, ensemble))


def _shape(item: Tensor, config: Config) -> tuple[str, list[int]]:
    """Type and full shape, the batch included where the model has one."""
    return str(item["data_type"]), ([-1] if config["max_batch_size"] else []) + list(item["dims"])


def _same(ensemble: str, name: str, one: tuple[str, list[int]], other: tuple[str, list[int]]) -> None:
    fits = len(one[1]) == len(other[1]) and all(a == b or -1 in (a, b) for a, b in zip(one[1], other[1], strict=True))
    if one[0] != other[0] or not fits:
        raise InvalidInputError(f"In the ensemble {ensemble}, {name} is {one} to one model and {other} to another.")
