"""What stands in a bundle beside graphs and manifest, and what the manifest tells of the student."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vlkd_export.torch_reference import TorchReference
from vlkd_hub.errors import DataError
from vlkd_hub.hub.contents import without_folders

__all__ = ["lineage_of", "read_evaluation", "write_settings"]

WEIGHTS = "model.safetensors"
LINEAGE = "lineage.json"
PROCESSOR = "processor_config.json"


def write_settings(reference: TorchReference, bundle: Path, tasks: dict[str, Any]) -> None:
    """Everything but graphs and manifest, as transformers writes it.

    Args:
        reference: the model in torch.
        bundle: an empty folder.
        tasks: the prompts that the bundle keeps.
    """
    model, processor = reference.model, reference.processor
    processor.save_pretrained(bundle)
    processor.image_processor.save_pretrained(bundle)
    model.config.save_pretrained(bundle)
    if tasks:
        model.generation_config.save_pretrained(bundle)
    # transformers leaves out what its tokenizer class decides; without transformers it must be written down.
    for file in bundle.glob("*.py"):
        file.unlink()  # a model that was saved with its code in this process leaves it here too
    for file in bundle.glob("*.json"):
        told = _without_code(json.loads(file.read_text("utf-8")))
        _write_json(file, without_folders(told, everywhere=False))
    path = bundle / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    tokenizer = processor.tokenizer
    config |= {
        "clean_up_tokenization_spaces": bool(tokenizer.clean_up_tokenization_spaces),
        "pad_token": str(tokenizer.pad_token),
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
    }
    if tokenizer.mask_token is not None:
        config["mask_token"] = str(tokenizer.mask_token)
    _write_json(path, config)
    path = bundle / PROCESSOR
    if path.exists():
        written = json.loads(path.read_text(encoding="utf-8"))
        _write_json(path, written | {"tasks": tasks} if "tasks" in written else written)


def _without_code(value: Any) -> Any:
    """JSON without ``auto_map``: a bundle holds no Python, so nothing in it may point to some."""
    if isinstance(value, dict):
        return {key: _without_code(item) for key, item in value.items() if key != "auto_map"}
    return [_without_code(item) for item in value] if isinstance(value, list) else value


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_evaluation(path: Path) -> dict[str, Any]:
    """The report of ``vlkd evaluate``, without the examples in it.

    Raises:
        DataError: the file is absent or holds no such report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report["splits"], dict):
            raise ValueError("its splits are no object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no report of vlkd evaluate --json ({error!r}).") from error
    figures: dict[str, Any] = _figures(report)
    return figures


def _figures(value: Any) -> Any:
    """The numbers of a report: examples and folders stay where it was made."""
    if isinstance(value, dict):
        kept = {key: _figures(item) for key, item in value.items() if key not in ("examples", "model", "data")}
        return kept
    return [_figures(item) for item in value] if isinstance(value, list) else value


def lineage_of(model: Any, path: Path) -> dict[str, Any]:
    """Where the graphs come from: the student's weights by content, its parts, and what its trainer noted.

    Of folders that the trainer noted only the names go in: a bundle travels.
    """
    config = model.config
    vision = getattr(config, "vision_config", None) or config.image_config
    text = getattr(config, "text_encoder", None) or config.text_config
    backbone = getattr(vision, "backbone_name", None) or getattr(vision, "backbone_type", None) or vision.model_type
    lineage: dict[str, Any] = {
        "student_class": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "text_encoder": text.model_type,
        "vision_backbone": backbone,
    }
    if (path / LINEAGE).is_file():
        noted = json.loads((path / LINEAGE).read_text(encoding="utf-8"))
        lineage |= {
            key: Path(v).name if isinstance(v, str) and Path(v).is_absolute() else v for key, v in noted.items()
        }
    if (path / WEIGHTS).is_file():
        with (path / WEIGHTS).open("rb") as stream:
            lineage["student_sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
    return lineage
