"""VLKD: the three objectives of 002_330011b7ef9ac362.txt, and its fine-tuning."""

from __future__ import annotations

from typing import Any

import torch

from ..losses import ICTILoss, ITCLLoss, TTDMLoss
from .base import Method

__all__ = ["VLKDFinetuneMethod", "VLKDMethod"]

_STUDENT_INPUTS = (
    "input_ids",
    "attention_mask",
    "pixel_values",
    "image_tokens",
    "labels",
    "clean_input_ids",
    "clean_attention_mask",
)


class VLKDMethod(Method):
    r"""L = gamma L_TTDM + L_ITCL + L_ICTI.

    Args:
        gamma: weight of TTDM, 10^3 in the paper. 0 leaves TTDM out (Table 7, "w/o TTDM").
        itcl_weight: 1 in the paper. 0 leaves ITCL out ("w/o ITCL").
        icti_weight: 1 in the paper.

    The batch holds ``teacher_text_embeds`` (batch, dim), ``image_ids`` (batch,), the corrupted text in ``input_ids``,
    the whole text in ``clean_input_ids`` and ``labels``, and the picture.

    Source: 002_330011b7ef9ac362.txt, section 3.2.
    """

    student_inputs = _STUDENT_INPUTS
    student_options = {"labelled_logits_only": True}
    contrast_outputs = ("image_embeds", "text_embeds", "logit_scale")

    def __init__(self, gamma: float = 1e3, itcl_weight: float = 1.0, icti_weight: float = 1.0) -> None:
        super().__init__()
        self.gamma, self.itcl_weight, self.icti_weight = gamma, itcl_weight, icti_weight
        self.ttdm, self.itcl, self.icti = TTDMLoss(), ITCLLoss(), ICTILoss()

    @torch.no_grad()
    def precompute(self, model: Any, batch: dict[str, Any], rows: int) -> dict[str, Any]:
        """V of the frozen image tower, made once."""
        if "pixel_values" not in batch or not model.config.freeze_vision:
            return batch
        tokens = torch.cat([model.vlkd.image_tokens(some) for some in batch["pixel_values"].split(rows)])
        return {name: value for name, value in batch.items() if name != "pixel_values"} | {"image_tokens": tokens}

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weighted parts ``ttdm``, ``itcl`` and ``icti``; a part with weight 0 is left out."""
        parts = self.row_parts(outputs, batch) | self.contrast_parts(outputs, batch)
        return {name: parts[name] for name in ("ttdm", "itcl", "icti") if name in parts}

    def contrast_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """ITCL: each picture against every text."""
        if not self.itcl_weight:
            return {}
        ids = batch.get("image_ids")
        loss = self.itcl(outputs.image_embeds, outputs.text_embeds, outputs.logit_scale, ids)
        return {"itcl": self.itcl_weight * loss}

    def row_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """TTDM and ICTI, means over texts."""
        parts = {}
        if self.gamma:
            parts["ttdm"] = self.gamma * self.ttdm(outputs.text_embeds, batch["teacher_text_embeds"])
        if self.icti_weight:
            parts["icti"] = self.icti_weight * self.icti(outputs.logits, batch["labels"])
        return parts


class VLKDFinetuneMethod(Method):
    """Captions and answers by next-token likelihood, CLIP frozen (section 4.4, Table 11).

    Args:
        ttdm_weight: keeps the text side in the teacher's space while the decoder learns its tasks; the paper
            fine-tunes without (0), one checkpoint for search and writing needs it.
        label_smoothing: share of the target spread over the vocabulary.
    """

    student_inputs = _STUDENT_INPUTS
    student_options = {"labelled_logits_only": True}

    def __init__(self, ttdm_weight: float = 0.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.ttdm_weight = ttdm_weight
        self.ttdm = TTDMLoss()
        self.language_modeling = ICTILoss(per_token=True, label_smoothing=label_smoothing)

    def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return ``lm_<task>`` of the batch's task and, where asked for, ``ttdm`` over its clean texts."""
        parts = {f"lm_{batch['task']}": self.language_modeling(outputs.logits, batch["labels"])}
        if self.ttdm_weight:
            parts["ttdm"] = self.ttdm_weight * self.ttdm(outputs.text_embeds, batch["teacher_text_embeds"])
        return parts
