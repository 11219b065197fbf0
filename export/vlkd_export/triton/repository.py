"""Write the repository: a folder for each model with its config, its version 1, and what it warms up on."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import onnx
from PIL import Image

from vlkd_export.triton.graphs import graph_config, load_graphs, scores_config, scores_graph
from vlkd_export.triton.model_config import to_pbtxt
from vlkd_export.triton.pipelines import ensemble_configs, preprocess_config, tokenize_config, write_config
from vlkd_export.triton.settings import TritonSettings
from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime import ImageProcessor

__all__ = ["write_repository"]

SETTINGS_FILES = (
    "manifest.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
MARK = "vlkd-triton.json"
"""Tells a repository written here from any other folder."""

Say = Callable[[str], None]


def write_repository(
    bundle: Path, output: Path, settings: TritonSettings, say: Say = lambda line: None
) -> dict[str, dict[str, Any]]:
    """Write the student in ``bundle`` as a model repository at ``output``.

    Args:
        bundle: what ``vlkd export`` wrote.
        output: replaced if it was written here before; anything else is left alone.
        settings: what was asked for.
        say: told each stage in a few words.

    Returns:
        Name -> config of every model.

    Raises:
        BundleError: the bundle is not whole, or ``output`` is something else.
        InvalidInputError: a graph has a fixed batch.
    """
    manifest = read_manifest(bundle)
    if output.exists() and not (output / MARK).is_file():
        raise BundleError(f"{output} exists and is not a repository written here; it is left alone.")
    if manifest.fixed_shapes:
        raise InvalidInputError(f"{bundle} has fixed shapes, and Triton forms batches. Leave out --no-dynamic-axes.")
    graphs = load_graphs(bundle)
    height, width = ImageProcessor.from_pretrained(bundle).output_size
    configs = {name: graph_config(name, model, settings) for name, model in graphs.items()}
    configs["scores"] = scores_config(manifest.embedding_dim, settings)
    configs["preprocess"] = preprocess_config(height, width, settings)
    configs["tokenize"] = tokenize_config(settings)
    for task, options in manifest.tasks.items() if manifest.generation is not None else ():
        configs[task] = write_config(task, "{question}" in options["prompt"], settings)
    configs |= {config["name"]: config for config in ensemble_configs(configs, settings)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as work:
        repository = Path(work) / "repository"
        for name, config in configs.items():
            say(f"model {name}")
            _write_model(repository / name, config, graphs, bundle)
        facts = {"fingerprint": manifest.fingerprint, "models": sorted(configs)}
        (repository / MARK).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        if output.exists():
            output.rename(Path(work) / "former")
        repository.rename(output)
    return configs


def _write_model(folder: Path, config: dict[str, Any], graphs: dict[str, onnx.ModelProto], bundle: Path) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(to_pbtxt(config), encoding="utf-8")
    name = config["name"]
    if name in graphs:
        _save(graphs[name], version / "model.onnx")
    elif name == "scores":
        _save(scores_graph(config["input"][0]["dims"][1]), version / "model.onnx")
    elif config.get("backend") == "python":
        source = name if name in ("preprocess", "tokenize") else "write"
        code = files("vlkd_export.triton").joinpath("backends").joinpath(f"{source}.py").read_text(encoding="utf-8")
        (version / "model.py").write_text(code, encoding="utf-8")
        _copy_settings(folder / "bundle", graphs, bundle)
        for warm in config.get("model_warmup", ()):
            (folder / "warmup").mkdir()
            for item in warm["inputs"]:
                (folder / "warmup" / item["key"]).write_bytes(_serialized(item["key"]))


def _save(model: onnx.ModelProto, path: Path) -> None:
    large = model.ByteSize() > 2_000_000_000
    onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data" if large else None)


def _copy_settings(folder: Path, graphs: dict[str, onnx.ModelProto], bundle: Path) -> None:
    folder.mkdir()
    for name in SETTINGS_FILES:
        if (bundle / name).is_file():
            shutil.copy(bundle / name, folder / name)
    outputs = {name: [item.name for item in model.graph.output] for name, model in graphs.items()}
    (folder / "graphs.json").write_text(json.dumps(outputs, indent=2) + "\n", encoding="utf-8")


def _serialized(name: str) -> bytes:
    """One string as Triton reads strings from a file: its length in four bytes, then itself."""
    if name == "IMAGE":
        picture = io.BytesIO()
        Image.new("RGB", (32, 32), "gray").save(picture, "PNG")
        value = picture.getvalue()
    else:
        value = b"a picture"
    return struct.pack("<I", len(value)) + value
