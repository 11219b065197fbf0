"""Whether each provider really runs a graph here: a session is opened and asked what it runs on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from vlkd_hub.errors import InvalidInputError, VlkdError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.providers import PROVIDERS, open_graph, provider_of
from vlkd_hub.runtime.sessions import node_placement

__all__ = ["check_providers", "placement_of"]

DISTRIBUTIONS = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",)}
"""Python package -> the distributions that bring it."""

# One Identity node over a float tensor, opset 17 of IR version 8, as onnx writes it; so that no package is needed to
# make it.
IDENTITY = bytes.fromhex(
    "08083a3a0a130a01781201791a016922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a01"
    "79120a0a08080112040a02080142040a001011"
)


def check_providers() -> list[dict[str, Any]]:
    """For each of :data:`vlkd_hub.runtime.providers.PROVIDERS`: does it open a graph, on what, and if not, why.

    onnxruntime's own list of available providers is not asked: it names CUDA on machines without a GPU.
    """
    with TemporaryDirectory() as folder:
        graph = Path(folder) / "identity.onnx"
        graph.write_bytes(IDENTITY)
        return [_check(name, graph) for name in PROVIDERS]


def _check(name: str, graph: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"provider": name, "version": _version(PROVIDERS[name].module)}
    try:
        places = list(open_graph(graph, provider=name, threads=1).get_providers())
    except VlkdError as error:
        return found | {"works": False, "runs_on": [], "error": str(error)}
    return found | {"works": True, "runs_on": places, "error": None}


def _version(module: str) -> str | None:
    for name in DISTRIBUTIONS[module]:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def placement_of(bundle: Path, provider: str) -> dict[str, dict[str, dict[str, int]]]:
    """Graph -> where -> operator -> nodes, of a bundle that embeds and writes once.

    Raises:
        BundleError: it is no bundle.
        InvalidInputError: the provider is unknown.
        MissingDependencyError: the provider does not load.
    """
    chosen = PROVIDERS[provider_of(provider, "")]
    student = OnnxStudent.from_pretrained(bundle)
    fed: dict[str, dict[str, Any]] = {}
    for name, session in student.sessions.items():
        student.sessions[name] = _Watched(session, fed.setdefault(name, {}))
    picture = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    student.embed_images([picture])
    student.embed_texts(["a picture"])
    for task in student.manifest.tasks:
        settings = student.settings(task, num_beams=1, do_sample=False, max_new_tokens=2)
        student.write_tokens(task, [picture], ["what is this?"], settings)
    external = {path.removeprefix("onnx/") for path in student.manifest.files if path.startswith("onnx/")}
    placed: dict[str, dict[str, dict[str, int]]] = {}
    for name, feeds in fed.items():
        path = bundle / "onnx" / f"{name}.onnx"
        if not feeds:
            continue
        if chosen.onnxruntime:
            providers = chosen.onnxruntime
            placed[name] = node_placement(path, feeds, providers=providers, allowed_external=external)
        else:
            session = open_graph(path, provider=provider, allowed_external=external)
            placed[name] = {"OpenVINO": session.placement()}
    if not placed:
        raise InvalidInputError(f"{bundle} ran none of its graphs.")
    return placed


class _Watched:
    """A session that notes its last inputs."""

    def __init__(self, session: Any, fed: dict[str, Any]) -> None:
        self.session, self.fed = session, fed

    def run(self, output_names: list[str] | None, feeds: dict[str, Any]) -> Any:
        """As the session does."""
        self.fed.update(feeds)
        return self.session.run(output_names, feeds)
