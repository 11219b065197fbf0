"""Load a model of transformers whole: with every one of its weights, from safetensors, and nothing that runs code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlkd_hub.errors import WeightsError

__all__ = ["load_whole"]


def load_whole(loader: Any, path: str | Path, *, new: Sequence[str] = (), **options: Any) -> Any:
    """``loader.from_pretrained(path)``, which by itself gives random values to weights that are not there.

    Args:
        loader: a model's class, or an Auto class.
        path: folder or Hub id.
        new: prefixes of weights that need not be there: of a head to be trained, or that nobody reads.
        **options: go to ``from_pretrained``.

    Raises:
        WeightsError: weights are missing or have other shapes.
    """
    model, found = loader.from_pretrained(
        path, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
    )
    tied = set(getattr(model, "all_tied_weights_keys", ()))  # saved under another name
    missing = sorted(name for name in found["missing_keys"] if name not in tied and not name.startswith(tuple(new)))
    other = sorted(str(key[0] if isinstance(key, tuple) else key) for key in found["mismatched_keys"])
    holes = [*missing, *other]
    if holes:
        raise WeightsError(
            f"{path} lacks {len(holes)} of the model's weights (the first: {', '.join(holes[:3])}); they would start "
            "from random values. The save was cut short or is of another architecture: save or download it again."
        )
    return model
