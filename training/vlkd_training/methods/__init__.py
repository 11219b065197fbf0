"""Distillation methods, one paper a file."""

from __future__ import annotations

from .align import AlignMethod
from .base import Method
from .classify import ClassifyMethod
from .image_quantizer import ImageQuantizerMethod
from .scst import SCSTMethod
from .smke import SmkeMethod
from .text_classification import TextClassificationMethod
from .text_infilling import TextInfillingMethod
from .unimodal import UnimodalMethod
from .vlkd import VLKDFinetuneMethod, VLKDMethod

__all__ = [
    "AlignMethod",
    "ClassifyMethod",
    "ImageQuantizerMethod",
    "Method",
    "SCSTMethod",
    "SmkeMethod",
    "TextClassificationMethod",
    "TextInfillingMethod",
    "UnimodalMethod",
    "VLKDFinetuneMethod",
    "VLKDMethod",
]
