"""Payloads that leave a file behind when they run. Each test first shows that its payload would."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PICKLES", "Canary", "canary_code"]


class Canary:
    """Unpickling it makes the file ``at``."""

    def __init__(self, at: Path) -> None:
        self.at = str(at)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.at, "w"))


def _by_torch(canary: Any, zipped: bool) -> bytes:
    import torch  # here, since half of the tests that plant something need none

    buffer = io.BytesIO()
    torch.save({"weight": canary}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


PICKLES: dict[str, Callable[[Canary], bytes]] = {
    "torch": lambda canary: _by_torch(canary, zipped=True),
    "torch, legacy": lambda canary: _by_torch(canary, zipped=False),
    "pickle": lambda canary: pickle.dumps({"weight": canary}),
}
"""The forms in which a pickle hides in a weight file."""


def canary_code(at: Path) -> str:
    """A Python file that makes the file ``at`` when it is imported, and has every class that a config may name."""
    names = ("Config", "Model", "Tokenizer", "TokenizerFast", "Processor", "ImageProcessor")
    classes = "\n".join(f"class Canary{name}:\n    pass\n" for name in names)
    return f"open({str(at)!r}, 'w').close()\n{classes}\ndef generate(*args, **kwargs):\n    pass\n"
