"""Transformer SHRe and S-SMKE: students whose pictures and texts a unimodal teacher aligned."""

from __future__ import annotations

from .configuration_smke import SmkeConfig, SmkeImageConfig
from .image_encoder import SmkeImageEncoder
from .matching import sample_negatives
from .modeling_smke import SmkeModel
from .outputs_smke import SmkeOutput
from .processing_smke import SmkeProcessor

__all__ = [
    "SmkeConfig",
    "SmkeImageConfig",
    "SmkeImageEncoder",
    "SmkeModel",
    "SmkeOutput",
    "SmkeProcessor",
    "sample_negatives",
]
