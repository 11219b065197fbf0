"""The second way to TensorRT: onnxruntime's execution provider, which builds and keeps engines by itself.

Without a cache it builds for minutes at every start, and with shapes that it was not told of it builds again
(onnxruntime#16889, #18272). So the cache is always on, every graph has a folder of its own, and the shapes are given.
There is no switch for a precision: TensorRT 11 knows only the types that stand in the graph, and the graphs of
``tensorrt/`` carry theirs.

Source of the names: onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html.
"""

from __future__ import annotations

from pathlib import Path

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.tensorrt.profiles import Profile, Shape

__all__ = ["PROVIDER", "tensorrt_provider_options"]

PROVIDER = "TensorrtExecutionProvider"
DEFAULT_WORKSPACE_BYTES = 2 << 30


def tensorrt_provider_options(
    graph: str,
    cache: str | Path,
    profile: Profile,
    *,
    device_id: int = 0,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
) -> tuple[str, dict[str, str]]:
    """Provider and options, as ``onnxruntime.InferenceSession(providers=[...])`` takes them.

    Args:
        graph: name of the graph; its engines get a folder of their own.
        cache: folder of engines and timings, kept between starts.
        profile: shapes to build for.
        device_id: which GPU.
        workspace_bytes: memory that the builder may use.

    Raises:
        InvalidInputError: ``profile`` is empty, or ``workspace_bytes`` is below 1.
    """
    if not profile:
        raise InvalidInputError(f"{graph} has no profile; without shapes its engine is built again at every new one.")
    if workspace_bytes < 1:
        raise InvalidInputError(f"workspace_bytes must be 1 or more, got {workspace_bytes}.")
    return PROVIDER, {
        "device_id": str(device_id),
        "trt_max_workspace_size": str(workspace_bytes),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(Path(cache) / graph),
        "trt_engine_cache_prefix": graph,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        "trt_profile_min_shapes": _shapes({name: some.min for name, some in profile.items()}),
        "trt_profile_opt_shapes": _shapes({name: some.opt for name, some in profile.items()}),
        "trt_profile_max_shapes": _shapes({name: some.max for name, some in profile.items()}),
    }


def _shapes(shapes: dict[str, Shape]) -> str:
    """``name:1x3x224x224,other:1x7``."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
