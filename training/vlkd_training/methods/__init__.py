"""Distillation methods, one paper a file."""

from __future__ import annotations

from .align import AlignMethod
from .base import Method
from .scst import SCSTMethod
from .text_infilling import TextInfillingMethod
from .vlkd import VLKDFinetuneMethod, VLKDMethod

__all__ = ["AlignMethod", "Method", "SCSTMethod", "TextInfillingMethod", "VLKDFinetuneMethod", "VLKDMethod"]
