"""Losses: tensors in, a scalar out. None of them holds a model."""

from __future__ import annotations

from .icti import ICTILoss
from .itcl import ITCLLoss
from .ttdm import TTDMLoss

__all__ = ["ICTILoss", "ITCLLoss", "TTDMLoss"]
