"""Engines from the graphs of a plan, with TensorRT 10 or 11, kept in an engine store.

One way for both versions: strongly typed networks, whose precision stands in the graph. TensorRT 10 must be told
(``STRONGLY_TYPED``); 11 has no other kind, and has dropped the flags of 10 for a precision (``BuilderFlag.FP16``,
``BF16``, ``INT8``, ``FP8``, ``OBEY_PRECISION_CONSTRAINTS``) and the int8 calibrator. None of those is used here.

Source: docs.nvidia.com/deeplearning/tensorrt/latest, "Python Migration Patterns for TensorRT 11.x".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlkd_hub.errors import BundleError
from vlkd_hub.runtime.tensorrt.cuda import compute_capability
from vlkd_hub.runtime.tensorrt.engine_session import load_tensorrt
from vlkd_hub.runtime.tensorrt.engine_store import EngineKey, EngineStore
from vlkd_hub.runtime.tensorrt.plan import graph_path, read_plan
from vlkd_hub.runtime.tensorrt.student import ENGINE_DIRECTORY, engine_keys

__all__ = ["BuildReport", "build_engines"]

WORKSPACE_BYTES = 2 << 30

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What became of one graph."""

    graph: str
    engine: str
    """Name of the engine in its store."""
    built: bool
    """False where it was there already."""
    seconds: float


def build_engines(
    bundle: Path, engines: Path | None = None, device_id: int = 0, say: Say = lambda line: None
) -> list[BuildReport]:
    """Build what is not in the store yet.

    Args:
        bundle: with a plan, see :func:`vlkd_export.tensorrt.prepare.prepare_tensorrt`.
        engines: folder of the store; None means ``engines`` in the bundle.
        device_id: which GPU; engines fit its compute capability.
        say: told each stage in a few words.

    Raises:
        MissingDependencyError: TensorRT or CUDA's bindings are absent, or there is no GPU.
        BundleError: the plan cannot be read, or TensorRT refuses a graph; the message holds its words.
    """
    plan = read_plan(bundle)
    trt = load_tensorrt()
    store = EngineStore(engines or bundle / ENGINE_DIRECTORY)
    reports = []
    for graph, key in engine_keys(bundle, plan, trt.__version__, compute_capability(device_id)).items():
        started = time.monotonic()
        built = store.load(key) is None
        if built:
            say(f"building {graph}")
            engine = _build(trt, graph_path(bundle, graph), key, store)
            store.save(key, engine, {"seconds": round(time.monotonic() - started, 1)})
        seconds = time.monotonic() - started
        reports.append(BuildReport(graph=graph, engine=key.name, built=built, seconds=seconds))
    return reports


def _build(trt: Any, path: Path, key: EngineKey, store: EngineStore) -> bytes:
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        words = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise BundleError(f"TensorRT {trt.__version__} cannot read {path}: {words}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    for some in key.profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in some.items():
            profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
        config.add_optimization_profile(profile)
    # A cache of another GPU or version is refused by TensorRT; then this build starts a new one.
    cache = config.create_timing_cache(store.load_timing_cache())
    if not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BundleError(f"TensorRT {trt.__version__} could not build {path}; its log above says why.")
    store.save_timing_cache(bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _network_flags(trt: Any) -> int:
    """Strong typing, which TensorRT 10 must be asked for and 11 has always."""
    if int(trt.__version__.split(".")[0]) >= 11:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
