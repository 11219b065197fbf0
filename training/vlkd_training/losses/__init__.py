"""Losses: tensors in, a scalar out, or a dict of weighted scalars. None of them holds a model."""

from __future__ import annotations

from .bank_contrast import BankContrastLoss
from .class_distribution import ClassDistributionLoss
from .cls_regression import ClsRegressionLoss
from .contrastive_target import ContrastiveTargetLoss
from .icti import ICTILoss
from .image_quantization import ImageQuantizationLoss
from .itcl import ITCLLoss
from .late_interaction import match_patches, score_all_pairs, score_pairs, word_mask
from .layer_average import LayerAverageLoss
from .layer_contrast import LayerContrastLoss
from .matching import ImageTextMatchingLoss, matching_accuracy
from .memory_bank import ExampleBank, MemoryBank
from .proximal import ProximalLoss
from .ranking import RankingLoss
from .target_cmli import TargetCMLILoss
from .ttdm import TTDMLoss

__all__ = [
    "BankContrastLoss",
    "ClassDistributionLoss",
    "ClsRegressionLoss",
    "ContrastiveTargetLoss",
    "ExampleBank",
    "ICTILoss",
    "ITCLLoss",
    "ImageQuantizationLoss",
    "ImageTextMatchingLoss",
    "LayerAverageLoss",
    "LayerContrastLoss",
    "MemoryBank",
    "ProximalLoss",
    "RankingLoss",
    "TTDMLoss",
    "TargetCMLILoss",
    "match_patches",
    "matching_accuracy",
    "score_all_pairs",
    "score_pairs",
    "word_mask",
]
