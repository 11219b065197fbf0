"""A student put together from sessions that are already open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlkd_hub.bundle import read_manifest
from vlkd_hub.runtime import ImageProcessor, OnnxStudent, TextProcessor
from vlkd_hub.runtime.student import read_generation_config

__all__ = ["student_of"]


def student_of(bundle: Path, sessions: Mapping[str, Any], batch_size: int = 32) -> OnnxStudent:
    """The student of ``bundle`` with other sessions than those of its files.

    Args:
        bundle: gives manifest, tokenizer and settings.
        sessions: graph -> session.
        batch_size: pictures or texts per run of a graph.
    """
    manifest = read_manifest(bundle, verify=False)
    return OnnxStudent(
        manifest,
        dict(sessions),
        ImageProcessor.from_pretrained(bundle),
        TextProcessor.from_pretrained(bundle, length=manifest.fixed_shapes.get("length")),
        read_generation_config(bundle, manifest) if manifest.generation is not None else {},
        batch_size,
    )
