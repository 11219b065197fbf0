"""The student with TensorRT engines in place of onnxruntime's sessions; the same methods as ``OnnxStudent``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime.generation_settings import GenerationSettings
from vlkd_hub.runtime.image_processing import ImageProcessor
from vlkd_hub.runtime.sessions import open_session
from vlkd_hub.runtime.split_decoder import SplitDecoder
from vlkd_hub.runtime.student import OnnxStudent, read_generation_config
from vlkd_hub.runtime.tensorrt.cuda import compute_capability
from vlkd_hub.runtime.tensorrt.engine_session import EngineSession, load_tensorrt
from vlkd_hub.runtime.tensorrt.engine_store import EngineKey, EngineStore, onnx_digest
from vlkd_hub.runtime.tensorrt.plan import PLAN_DIRECTORY, EnginePlan, graph_path, read_plan
from vlkd_hub.runtime.tensorrt.provider_options import tensorrt_provider_options
from vlkd_hub.runtime.text import TextProcessor

__all__ = ["ENGINE_DIRECTORY", "TensorrtStudent", "engine_keys"]

ENGINE_DIRECTORY = "engines"
FIRST, NEXT = "decoder_first", "decoder_next"


class TensorrtStudent(OnnxStudent):
    """Embeds, captions and answers from engines; see :class:`~vlkd_hub.runtime.student.OnnxStudent`."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        directory: str | Path,
        *,
        engines: str | Path | None = None,
        through: str = "tensorrt",
        device_id: int = 0,
        verify: bool = True,
        batch_size: int | None = None,
    ) -> TensorrtStudent:
        """Open a bundle whose engines were built on this machine, or let onnxruntime build and keep its own.

        Args:
            directory: what ``vlkd export --to tensorrt`` wrote.
            engines: folder of the engines; None means ``engines`` in the bundle.
            through: ``"tensorrt"`` for engines of ``vlkd export --to tensorrt``, or ``"onnxruntime"`` for its TensorRT
                provider, which builds engines at the first start and finds them at the next.
            device_id: which GPU.
            verify: compare the SHA-256 of every file with the manifest.
            batch_size: pictures or texts per run; None means what the engines were built for.

        Raises:
            BundleError: the bundle is incomplete or changed, has no plan, or an engine is not there.
            InvalidInputError: ``through`` is neither of the two.
            MissingDependencyError: TensorRT, its provider or CUDA is absent.
        """
        directory = Path(directory)
        manifest = read_manifest(directory, verify=verify)
        plan = read_plan(directory)
        folder = Path(engines or directory / ENGINE_DIRECTORY)
        if through not in ("tensorrt", "onnxruntime"):
            raise InvalidInputError(f"through is 'tensorrt' or 'onnxruntime', got {through!r}.")
        open_all = _engine_sessions if through == "tensorrt" else _provider_sessions
        sessions = open_all(directory, plan, folder, device_id)
        generation_config: dict[str, Any] = {}
        if manifest.generation is not None:
            sessions["decoder"] = SplitDecoder(sessions.pop(FIRST), sessions.pop(NEXT))
            generation_config = read_generation_config(directory, manifest)
        return cls(
            manifest,
            sessions,
            ImageProcessor.from_pretrained(directory),
            TextProcessor.from_pretrained(directory),
            generation_config,
            batch_size or plan.profiles["image_encoder"]["pixel_values"].max[0],
        )

    def write_tokens(
        self, task: str, images: Sequence[Image.Image], questions: Sequence[str | None], settings: GenerationSettings
    ) -> list[list[int]]:
        """See ``OnnxStudent``; fewer pictures at once where each becomes several beams, for the engines' sake."""
        step = max(1, self.batch_size // settings.num_beams)
        rows: list[list[int]] = []
        for start in range(0, len(images), step):
            at = slice(start, start + step)
            rows += super().write_tokens(task, images[at], questions[at], settings)
        return rows


def _engine_sessions(directory: Path, plan: EnginePlan, folder: Path, device_id: int) -> dict[str, Any]:
    trt = load_tensorrt()
    store = EngineStore(folder)
    keys = engine_keys(directory, plan, trt.__version__, compute_capability(device_id))
    return {graph: _open(store, key, directory, device_id) for graph, key in keys.items()}


def _provider_sessions(directory: Path, plan: EnginePlan, folder: Path, device_id: int) -> dict[str, Any]:
    beside = {path.name for path in (directory / PLAN_DIRECTORY).iterdir()}
    return {
        graph: open_session(
            graph_path(directory, graph),
            providers=[tensorrt_provider_options(graph, folder, profile, device_id=device_id), "CUDAExecutionProvider"],
            allowed_external=beside,
        )
        for graph, profile in plan.profiles.items()
    }


def engine_keys(directory: Path, plan: EnginePlan, version: str, capability: str) -> dict[str, EngineKey]:
    """Graph -> key of its engine on this machine."""
    return {
        graph: EngineKey(
            graph=graph,
            onnx_sha256=onnx_digest(graph_path(directory, graph)),
            tensorrt_version=version,
            compute_capability=capability,
            profiles=[profile],
        )
        for graph, profile in plan.profiles.items()
    }


def _open(store: EngineStore, key: EngineKey, directory: Path, device_id: int) -> EngineSession:
    engine = store.load(key)
    if engine is None:
        raise BundleError(
            f"{store.directory} holds no engine of {key.graph} for TensorRT {key.tensorrt_version} on compute "
            f"capability {key.compute_capability}. Build it here: vlkd export {directory} --to tensorrt --output OTHER"
        )
    return EngineSession(engine, key.graph, device_id)
