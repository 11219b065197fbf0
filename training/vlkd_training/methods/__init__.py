"""Distillation methods, one paper a file."""

from __future__ import annotations

from .align import AlignMethod
from .base import Method
from .scst import SCSTMethod
from .smke import SmkeMethod
from .text_classification import TextClassificationMethod
from .text_infilling import TextInfillingMethod
from .vlkd import VLKDFinetuneMethod, VLKDMethod

__all__ = [
    "AlignMethod",
    "Method",
    "SCSTMethod",
    "SmkeMethod",
    "TextClassificationMethod",
    "TextInfillingMethod",
    "VLKDFinetuneMethod",
    "VLKDMethod",
]
