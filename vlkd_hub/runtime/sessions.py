"""onnxruntime sessions: threads, providers that are kept to, and files that are looked at first."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vlkd_hub._optional import require
from vlkd_hub.errors import BundleError, InvalidInputError, MissingDependencyError
from vlkd_hub.runtime.external_data import check_external_data
from vlkd_hub.runtime.guarded_session import GuardedSession

__all__ = ["DEFAULT_PROVIDERS", "available_cpus", "default_threads", "node_placement", "open_session"]

DEFAULT_PROVIDERS = ("CPUExecutionProvider",)
MAX_DEFAULT_THREADS = 8
"""A decoding step is a few milliseconds of small matrices: more threads wait for each other."""
PROVIDER_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu, with CUDA and cuDNN",
    "TensorrtExecutionProvider": "onnxruntime-gpu, with TensorRT",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
}
ProviderEntry = str | tuple[str, Mapping[str, Any]]
"""Name of an execution provider, alone or with its options."""


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads(threads: int | None) -> int:
    """``threads``, or for None the processors of this process, 8 at most.

    Raises:
        InvalidInputError: it is below 1.
    """
    if threads is not None and threads < 1:
        raise InvalidInputError(f"threads must be 1 or more, got {threads}. Leave it out to use every processor.")
    return threads or min(available_cpus(), MAX_DEFAULT_THREADS)


def open_session(
    path: str | Path,
    *,
    threads: int | None = None,
    providers: Sequence[ProviderEntry] | None = None,
    allowed_external: set[str] | None = None,
    profile: str | Path | None = None,
    shared: Mapping[str, NDArray[Any]] | None = None,
) -> Any:
    """Open one ONNX graph.

    The threads of a session do not spin between runs: a student holds several sessions that take turns, and on few
    cores the idle ones would take the processor from the one at work.

    Args:
        path: the ``.onnx`` file.
        threads: threads inside one operator; None means the processors of this process, 8 at most.
        providers: onnxruntime's execution providers, in order, each a name or a name with its options; None means the
            CPU. All of them must load.
        allowed_external: names of weight files beside ``path`` that it may read.
        profile: prefix of a file in which onnxruntime notes what each node did; None notes nothing.
        shared: weights to use in place instead of the file's own, see :func:`vlkd_hub.runtime.shared_tables`.

    Returns:
        An ``onnxruntime.InferenceSession``, guarded: its failures are this package's errors.

    Raises:
        BundleError: the file names weights outside ``allowed_external``, or onnxruntime cannot read it.
        InvalidInputError: ``threads`` is below 1, or a provider is unknown to onnxruntime.
        MissingDependencyError: onnxruntime, or a provider that was asked for, is not installed or does not load.
    """
    ort = require("onnxruntime", "serve")
    threads = default_threads(threads)
    entries = list(providers) if providers is not None else list(DEFAULT_PROVIDERS)
    wanted = [entry if isinstance(entry, str) else entry[0] for entry in entries]
    _check_providers(ort, wanted)
    check_external_data(path, allowed_external or set())
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    kept = [(name, ort.OrtValue.ortvalue_from_numpy(values)) for name, values in (shared or {}).items()]
    for name, value in kept:
        options.add_initializer(name, value)
    try:
        # Its own fallback would print to the standard output and try again with other providers.
        session = ort.InferenceSession(str(path), options, providers=entries, enable_fallback=0)
    except Exception as error:  # onnxruntime raises many classes, none with a common base of its own
        raise BundleError(f"onnxruntime {ort.__version__} cannot open {path}: {error}") from error
    absent = [name for name in wanted if name not in session.get_providers()]
    if absent:
        raise MissingDependencyError(_advice(absent[0], f"onnxruntime fell back to {session.get_providers()}"))
    return GuardedSession(session, path, kept)


def node_placement(
    path: str | Path,
    feeds: Mapping[str, Any],
    *,
    providers: Sequence[ProviderEntry] | None = None,
    allowed_external: set[str] | None = None,
) -> dict[str, dict[str, int]]:
    """Run a graph once and count where its nodes ran: provider -> operator -> nodes.

    The nodes are those of the optimised graph, after fusion. A provider may leave some to the CPU although it loaded.

    Raises:
        BundleError, InvalidInputError, MissingDependencyError: see :func:`open_session`.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(
            path, providers=providers, allowed_external=allowed_external, profile=Path(folder) / "nodes"
        )
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = {
        (event["args"]["provider"], event["args"]["op_name"], event["name"])
        for event in events
        if event.get("cat") == "Node" and "provider" in event.get("args", {})
    }
    placed: dict[str, Counter[str]] = {}
    for provider, operator, _ in ran:
        placed.setdefault(provider, Counter())[operator] += 1
    return {provider: dict(counts.most_common()) for provider, counts in placed.items()}


def _check_providers(ort: Any, wanted: list[str]) -> None:
    if not wanted:
        raise InvalidInputError("providers is empty; leave it out to use the CPU.")
    for name in wanted:
        if name not in ort.get_all_providers():
            raise InvalidInputError(
                f"onnxruntime {ort.__version__} knows no provider {name!r}. "
                f"It knows {', '.join(ort.get_all_providers())}."
            )
        if name not in ort.get_available_providers():
            raise MissingDependencyError(_advice(name, f"this onnxruntime has {ort.get_available_providers()}"))


def _advice(name: str, found: str) -> str:
    package = PROVIDER_PACKAGES.get(name, f"an onnxruntime built with {name}")
    return f"{name} was asked for and is not there: {found}. Install {package}, or ask for CPUExecutionProvider."
