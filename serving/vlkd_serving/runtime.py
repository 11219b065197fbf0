"""The torch-free student that serving runs on."""

from __future__ import annotations

from vlkd_hub.runtime import OnnxStudent

__all__ = ["OnnxStudent"]
