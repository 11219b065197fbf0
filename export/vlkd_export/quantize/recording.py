"""What the graphs are fed in real use: the inputs of each session, taken down while the student works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_export.golden import TEXTS, GoldenPicture
from vlkd_export.quantize.assembly import student_of
from vlkd_export.quantize.methods import Feeds

__all__ = ["BATCHES", "record_calibration", "record_timing"]

BATCHES = (1, 8)
"""Batch sizes that are timed: one person's request, and a busy server's."""
KEPT = 64
"""Inputs of a graph that are kept for calibration; a decoder meets thousands."""
CALIBRATION_BATCH = 4
TIMED_STEP = 6
"""Step of the decoder that is timed: some tokens are read already."""


class _Recorder:
    """A session that also keeps what it was fed."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.feeds: list[Feeds] = []

    def run(self, output_names: list[str] | None, feeds: Feeds) -> list[NDArray[Any]]:
        """As the session does."""
        self.feeds.append({name: np.array(array) for name, array in feeds.items()})
        outputs: list[NDArray[Any]] = self.session.run(output_names, feeds)
        return outputs


def record_calibration(
    bundle: Path, sessions: Mapping[str, Any], pictures: Sequence[GoldenPicture]
) -> dict[str, list[Feeds]]:
    """Let the student embed, caption and answer, and return graph -> inputs, evenly thinned to a few.

    Args:
        bundle: the fp32 bundle.
        sessions: its graphs, open.
        pictures: with captions and questions where there are some.
    """
    found = _recorded(bundle, sessions, pictures, CALIBRATION_BATCH)
    return {name: [feeds[at] for at in _evenly(len(feeds), KEPT)] for name, feeds in found.items()}


def record_timing(
    bundle: Path, sessions: Mapping[str, Any], pictures: Sequence[GoldenPicture]
) -> dict[str, dict[int, Feeds]]:
    """Graph -> batch size -> one ordinary input.

    Args:
        bundle: the fp32 bundle.
        sessions: its graphs, open.
        pictures: 8 at least.
    """
    timed: dict[str, dict[int, Feeds]] = {}
    for batch in BATCHES:
        for name, feeds in _recorded(bundle, sessions, pictures[:batch], batch).items():
            timed.setdefault(name, {})[batch] = feeds[min(len(feeds) - 1, TIMED_STEP if name == "decoder" else 0)]
    return timed


def _recorded(
    bundle: Path, sessions: Mapping[str, Any], pictures: Sequence[GoldenPicture], batch: int
) -> dict[str, list[Feeds]]:
    recorders = {name: _Recorder(session) for name, session in sessions.items()}
    student = student_of(bundle, recorders, batch)
    images = [picture.image for picture in pictures]
    texts = [picture.captions[0] for picture in pictures if picture.captions]
    student.embed_images(images)
    # Texts of like length share a batch, so that a range is not that of padding.
    student.embed_texts(sorted(texts or [*TEXTS, *TEXTS][:batch], key=len))
    for task in student.manifest.tasks:
        settings = student.settings(task, num_beams=1, do_sample=False)
        asks = "{question}" in student.text_processor.task(task)["prompt"]
        some = [picture for picture in pictures if picture.question or not asks]
        student.write_tokens(task, [p.image for p in some], [p.question for p in some], settings)
    return {name: recorder.feeds for name, recorder in recorders.items() if recorder.feeds}


def _evenly(count: int, wanted: int) -> list[int]:
    return [int(at) for at in np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))]
