"""VLKD: a student that searches, captions and answers (002_330011b7ef9ac362.txt)."""

from __future__ import annotations

from .classification_vlkd import VlkdForSequenceClassification
from .configuration_vlkd import VlkdConfig
from .modeling_vlkd import VlkdForConditionalGeneration, VlkdModel, VlkdPreTrainedModel
from .outputs_vlkd import VlkdContext, VlkdOutput, VlkdSeq2SeqOutput
from .processing_vlkd import VlkdProcessor
from .vision_tower import VisionTower, VisionTowerConfig

__all__ = [
    "VisionTower",
    "VisionTowerConfig",
    "VlkdConfig",
    "VlkdContext",
    "VlkdForConditionalGeneration",
    "VlkdForSequenceClassification",
    "VlkdModel",
    "VlkdOutput",
    "VlkdPreTrainedModel",
    "VlkdProcessor",
    "VlkdSeq2SeqOutput",
]
