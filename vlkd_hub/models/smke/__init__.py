"""Transformer SHRe and S-SMKE: students whose pictures and texts a unimodal teacher aligned."""

from __future__ import annotations

from .configuration_image_quantizer import ImageQuantizerConfig
from .configuration_smke import SmkeConfig, SmkeImageConfig
from .image_codebook import CodebookUsage, ImageCodebook, codebook_usage
from .image_encoder import SmkeImageEncoder
from .matching import sample_negatives
from .modeling_image_quantizer import ImageQuantizerModel, ImageQuantizerOutput
from .modeling_smke import SmkeModel
from .outputs_smke import SmkeOutput
from .processing_smke import SmkeProcessor

__all__ = [
    "CodebookUsage",
    "ImageCodebook",
    "ImageQuantizerConfig",
    "ImageQuantizerModel",
    "ImageQuantizerOutput",
    "SmkeConfig",
    "SmkeImageConfig",
    "SmkeImageEncoder",
    "SmkeModel",
    "SmkeOutput",
    "SmkeProcessor",
    "codebook_usage",
    "sample_negatives",
]
