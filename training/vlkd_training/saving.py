"""Saves a model so that any process can load it, with or without this package installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlkd_hub import __version__
from vlkd_hub.models import enable_remote_code, has_remote_code

__all__ = ["save_model"]


def save_model(model: Any, processor: Any, folder: Path, lineage: dict[str, Any]) -> None:
    """Write weights (safetensors), config, processor, the model's code, and where it comes from.

    Args:
        model: of ``vlkd_hub.models`` or of transformers.
        processor: its processor, image processor or tokenizer.
        folder: made when absent.
        lineage: teacher, data and recipe, kept in ``lineage.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if has_remote_code(model.config):
        enable_remote_code(model.config)
        heads = dict(model.config.auto_map)  # saving overwrites an entry of the config's own map
        model.save_pretrained(folder)
        _keep_every_head(folder, heads)
    else:
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if hasattr(processor, "image_processor"):
        processor.image_processor.save_pretrained(folder)  # preprocessor_config.json, which readers without torch know
    (folder / "lineage.json").write_text(json.dumps({"vlkd_hub": __version__, **lineage}, indent=1) + "\n")


def _keep_every_head(folder: Path, auto_map: dict[str, str]) -> None:
    """Saving notes the saved class under its own Auto name; put the heads back as they were set."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["auto_map"] = {**config.get("auto_map", {}), **auto_map}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
