"""An onnxruntime session whose failures are this package's errors, and which has the inputs that a student feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlkd_hub.bundle import GenerationSpec
from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime.decoder import cache_names

__all__ = ["GuardedSession", "check_interfaces"]

INVALID_ARGUMENT = "InvalidArgument"
"""onnxruntime's class for inputs that are missing, unknown, or of another type or rank."""


class GuardedSession:
    """Everything of an ``onnxruntime.InferenceSession``; :meth:`run` names the file when it fails.

    Args:
        session: the session.
        path: the file that it was made from.
        kept: values that the session refers to without owning them.
    """

    def __init__(self, session: Any, path: str | Path, kept: Sequence[Any] = ()) -> None:
        self._session = session
        self._path = path
        self._kept = kept

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any], run_options: Any = None) -> Any:
        """As onnxruntime's.

        Raises:
            InvalidInputError: the inputs are not those that the graph takes.
            BundleError: the graph failed.
        """
        try:
            return self._session.run(output_names, feeds, run_options)
        except Exception as error:  # onnxruntime raises many classes, none with a common base of its own
            kind = InvalidInputError if type(error).__name__ == INVALID_ARGUMENT else BundleError
            given = ", ".join(f"{name} {getattr(value, 'shape', '')}" for name, value in feeds.items())
            raise kind(f"{self._path} cannot run on {given[:500]}: {' '.join(str(error).split())[:500]}") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def check_interfaces(sessions: Mapping[str, Any], spec: GenerationSpec | None) -> None:
    """Hold the names that the graphs take and give against those that a student uses.

    Args:
        sessions: name of the graph -> session; one that cannot name its inputs is passed over.
        spec: of the decoder; None for a bundle that only embeds.

    Raises:
        BundleError: a graph takes other inputs, or gives too few outputs. The message names it.
    """
    for name, (takes, gives) in _interfaces(spec).items():
        session = sessions.get(name)
        if session is None or not hasattr(session, "get_inputs"):
            continue
        found = {item.name for item in session.get_inputs()}
        outputs = len(session.get_outputs())
        if found != takes or outputs < gives:
            raise BundleError(
                f"The graph onnx/{name}.onnx takes {sorted(found)} and gives {outputs} outputs; a student's takes "
                f"{sorted(takes)} and gives {gives}. Export the student again."
            )


def _interfaces(spec: GenerationSpec | None) -> dict[str, tuple[set[str], int]]:
    """Graph -> inputs and number of outputs."""
    encoded = 1 if spec is None else 2  # vectors, and what a decoder looks at
    found: dict[str, tuple[set[str], int]] = {
        "image_encoder": ({"pixel_values"}, encoded),
        "text_encoder": ({"input_ids", "attention_mask"}, encoded),
        "image_tokens": ({"pixel_values"}, 1),  # and the attention, where there is one
        "text_tokens": ({"input_ids", "attention_mask"}, 1),
    }
    if spec is not None:
        cross, past = cache_names("cross", spec.num_layers), cache_names("past", spec.num_layers)
        found["cross_attention"] = ({"context"}, len(cross))
        found["decoder"] = ({"input_ids", "context_mask", "past_mask", *cross, *past}, 1 + len(past))
    return found
