"""Where a graph runs: the words a person types, what they mean, and what to install for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vlkd_hub.bundle import Manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.openvino_session import OpenVinoSession
from vlkd_hub.runtime.sessions import open_session

__all__ = ["MEASURED", "PROVIDERS", "Provider", "installed_providers", "open_graph", "provider_of", "resolve_choice"]


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One way to run a graph.

    Attributes:
        module: Python package that runs it.
        package: what to install where it is missing.
        onnxruntime: onnxruntime's execution providers, in order; all of them must load. Empty for OpenVINO's own
            runtime, which is used directly.
        precision: OpenVINO's hint; None leaves it to OpenVINO, which takes bf16 where the processor has it.
    """

    module: str
    package: str
    onnxruntime: tuple[str, ...] = ()
    precision: str | None = None


CPU = "CPUExecutionProvider"
PROVIDERS: dict[str, Provider] = {
    "cpu": Provider(module="onnxruntime", package='"vlkd-hub[serve]"', onnxruntime=(CPU,)),
    "cuda": Provider(
        module="onnxruntime", package="onnxruntime-gpu, with CUDA and cuDNN", onnxruntime=("CUDAExecutionProvider", CPU)
    ),
    "tensorrt": Provider(
        module="onnxruntime",
        package="onnxruntime-gpu, with TensorRT",
        onnxruntime=("TensorrtExecutionProvider", "CUDAExecutionProvider", CPU),
    ),
    "openvino": Provider(module="openvino", package='"vlkd-hub[openvino]"'),
    "openvino-bf16": Provider(module="openvino", package='"vlkd-hub[openvino]"', precision="bf16"),
    "openvino-fp32": Provider(module="openvino", package='"vlkd-hub[openvino]"', precision="f32"),
}
"""What ``provider=`` and ``--provider`` take."""
MEASURED = "measured"
"""Instead of a provider: for each graph the one that a quantized bundle's manifest names."""


def installed_providers() -> dict[str, bool]:
    """Name -> whether its package is here and offers it; that it loads is known only once a session is open."""
    offered: list[str] = []
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        offered = onnxruntime.get_available_providers()
    return {
        name: set(provider.onnxruntime) <= set(offered) if provider.onnxruntime else find_spec("openvino") is not None
        for name, provider in PROVIDERS.items()
    }


def resolve_choice(choice: str | Mapping[str, str] | None, manifest: Manifest) -> str | Mapping[str, str] | None:
    """``choice``, or for ``"measured"`` where each graph was fastest when the bundle was quantized.

    Raises:
        InvalidInputError: the bundle was not quantized, so nothing was measured.
    """
    if choice != MEASURED:
        return choice
    plan = manifest.quantization.get("plan")
    if not plan:
        raise InvalidInputError(
            f"provider={MEASURED!r} takes what vlkd export --precision found fastest, and this bundle is from a plain "
            f"export. Name one of {', '.join(PROVIDERS)}."
        )
    return {graph: str(item["provider"]) for graph, item in plan.items()}


def provider_of(choice: str | Mapping[str, str] | None, graph: str) -> str:
    """The provider of one graph.

    Args:
        choice: one name for every graph, or graph -> name (a graph that is not in it runs on ``cpu``), or None.
        graph: for example ``"decoder"``.

    Raises:
        InvalidInputError: the name is not one of :data:`PROVIDERS`.
    """
    name = choice if isinstance(choice, str) else (choice or {}).get(graph, "cpu")
    if name not in PROVIDERS:
        raise InvalidInputError(f"Unknown provider {name!r}. Choose one of {', '.join(PROVIDERS)}.")
    return name


def open_graph(
    path: str | Path,
    *,
    provider: str | None = None,
    threads: int | None = None,
    providers: Sequence[Any] | None = None,
    allowed_external: set[str] | None = None,
    shared: Mapping[str, NDArray[Any]] | None = None,
) -> Any:
    """Open one ONNX graph where it was asked for.

    Args:
        path: the ``.onnx`` file.
        provider: one of :data:`PROVIDERS`; None means ``cpu``.
        threads: see :func:`vlkd_hub.runtime.sessions.open_session`.
        providers: onnxruntime's own list instead of ``provider``, with options where they are needed.
        allowed_external: names of weight files beside ``path`` that it may read.
        shared: weights that onnxruntime takes from memory; only for the CPU.

    Returns:
        An object with ``run(None, feeds)`` and ``get_providers()``.

    Raises:
        BundleError: the graph cannot be read, or names weights outside ``allowed_external``.
        InvalidInputError: the provider is unknown, or both ways of naming it are used.
        MissingDependencyError: the provider's library is not installed or does not load.
    """
    if provider is not None and providers is not None:
        raise InvalidInputError("Give provider or providers, not both.")
    chosen = PROVIDERS[provider_of(provider, "")]
    if chosen.onnxruntime:
        wanted = providers if providers is not None else chosen.onnxruntime
        return open_session(path, threads=threads, providers=wanted, allowed_external=allowed_external, shared=shared)
    return OpenVinoSession(path, threads=threads, precision=chosen.precision, allowed_external=allowed_external)
