"""A decoder in two graphs, for runtimes that take neither an empty input nor a graph with branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

__all__ = ["SplitDecoder"]


class SplitDecoder:
    """Two sessions behind one ``run``: the first step, which has no past, and every later one.

    Args:
        first: session of the step without past inputs.
        later: session of the step with them.
    """

    def __init__(self, first: Any, later: Any) -> None:
        self.first = first
        self.later = later

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """As the session of ``decoder.onnx``: an empty past goes to the first graph."""
        if feeds["past_mask"].shape[1]:
            outputs: list[NDArray[Any]] = self.later.run(output_names, feeds)
        else:
            now = {name: array for name, array in feeds.items() if not name.startswith("past_")}
            outputs = self.first.run(output_names, now)
        return outputs
