"""What stands in a bundle beside graphs and manifest, and what the manifest tells of the student."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vlkd_export.torch_reference import TorchReference
from vlkd_hub.bundle import GenerationSpec
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.models import VlkdForConditionalGeneration

__all__ = ["generation_spec", "lineage_of", "write_settings"]

WEIGHTS = "model.safetensors"
LINEAGE = "lineage.json"


def write_settings(reference: TorchReference, bundle: Path) -> None:
    """Everything but graphs and manifest, as transformers writes it."""
    model, processor = reference.model, reference.processor
    processor.save_pretrained(bundle)
    processor.image_processor.save_pretrained(bundle)
    model.config.save_pretrained(bundle)
    model.generation_config.save_pretrained(bundle)
    # transformers leaves out what its tokenizer class decides; without transformers it must be written down.
    for file in bundle.glob("*.json"):
        file.write_text(
            json.dumps(_without_code(json.loads(file.read_text("utf-8"))), indent=2, ensure_ascii=False) + "\n"
        )
    path = bundle / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    tokenizer = processor.tokenizer
    config |= {
        "clean_up_tokenization_spaces": bool(tokenizer.clean_up_tokenization_spaces),
        "mask_token": str(tokenizer.mask_token),
        "pad_token": str(tokenizer.pad_token),
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
    }
    _write_json(path, config)


def _without_code(value: Any) -> Any:
    """JSON without ``auto_map``: a bundle holds no Python, so nothing in it may point to some."""
    if isinstance(value, dict):
        return {key: _without_code(item) for key, item in value.items() if key != "auto_map"}
    return [_without_code(item) for item in value] if isinstance(value, list) else value


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def generation_spec(model: VlkdForConditionalGeneration) -> GenerationSpec:
    """What a caller of the decoder graph must know.

    Raises:
        InvalidInputError: the student names no token, or several, where the runtime needs one.
    """
    config, options = model.config.decoder, model.generation_config
    ends = options.eos_token_id if isinstance(options.eos_token_id, list) else [options.eos_token_id]
    if len(ends) != 1 or ends[0] is None or options.decoder_start_token_id is None or options.pad_token_id is None:
        raise InvalidInputError(
            f"generation_config.json must name one eos_token_id, a pad_token_id and a decoder_start_token_id; it has "
            f"{options.eos_token_id}, {options.pad_token_id} and {options.decoder_start_token_id}."
        )
    return GenerationSpec(
        decoder_start_token_id=options.decoder_start_token_id,
        eos_token_id=ends[0],
        pad_token_id=options.pad_token_id,
        forced_bos_token_id=options.forced_bos_token_id,
        num_layers=config.decoder_layers,
        num_heads=config.decoder_attention_heads,
        head_dim=config.d_model // config.decoder_attention_heads,
        vocab_size=config.vocab_size,
    )


def lineage_of(model: VlkdForConditionalGeneration, path: Path) -> dict[str, Any]:
    """Where the graphs come from: the student's weights by content, its parts, and what its trainer noted.

    Of folders that the trainer noted only the names go in: a bundle travels.
    """
    lineage: dict[str, Any] = {
        "student_class": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "text_encoder": model.config.text_encoder.model_type,
        "vision_backbone": model.config.vision_config.backbone_name or model.config.vision_config.backbone_type,
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


def _without_folder(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
