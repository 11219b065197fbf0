"""Transformer SHRe and S-SMKE: every objective of 004_3cb4412af0da3ec5.txt, section 3.2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from vlkd_hub.errors import RecipeError

from ..losses import (
    BankContrastLoss,
    ClassDistributionLoss,
    ClsRegressionLoss,
    ContrastiveTargetLoss,
    ImageTextMatchingLoss,
    LayerContrastLoss,
    RankingLoss,
    TargetCMLILoss,
)
from ..losses.late_interaction import word_mask
from ..losses.memory_bank import MemoryBank
from ..momentum import MomentumEncoder
from .base import Method

__all__ = ["TARGETS", "SmkeMethod"]

TARGETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "classes": ("teacher_logits",),
    "cls": ("teacher_cls",),
    "patches": ("teacher_patches",),
    "contrastive": ("teacher_cls",),
    "codes": ("teacher_codes",),
}
"""What h''' is held against -> the entries of a batch that hold the teacher's word on it."""


class SmkeMethod(Method):
    r"""L = L_KD + L_ITC (+ L_ITM), equations (48) and (68).

    Args:
        target: ``classes`` (SHRe, KL to a supervised teacher, (46)); ``cls`` (S-SMKE, the teacher's class token, (57));
            ``patches`` (target-CMLI, (75)-(77)); ``contrastive`` (the teacher's picture among others, (79)-(85));
            ``codes`` (the code of the image quantizer as a class, which the thesis left open); ``none``.
        target_weight: of L_KD.
        target_temperature: of the contrastive target; ``None`` is equation (83) as it is printed.
        target_bank: entries of the bank of frozen teacher vectors; 65,536 in the thesis, 0 for none.
        contrast: ``layers`` ((47) and (53)), ``ranking`` (SHRe's own loss, (32)) or ``none``.
        contrast_weight: of L_ITC.
        margin: of the ranking loss.
        ranking_reduction: ``sum`` is (32) as it is printed, which grows with the square of the batch; ``mean`` is not.
        matching: ``None``, or negatives ``random`` or ``hard`` of image-text matching, (64)-(67).
        bank: entries of the queues of earlier embeddings, one a modality and contrast layer (Table 20); 0 for none.
        momentum: m of the momentum encoder that fills them, (70); ``None`` lets the student fill them itself.
        layers: the student's ``contrast_layers``.
        widths: width of h', h'', h''', for the banks.

    Raises:
        RecipeError: an option that is unknown, or that needs another.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.
    """

    def __init__(
        self,
        target: str = "cls",
        target_weight: float = 1.0,
        target_temperature: float | None = 0.07,
        target_bank: int = 0,
        contrast: str = "layers",
        contrast_weight: float = 1.0,
        margin: float = 0.2,
        ranking_reduction: Literal["sum", "mean"] = "sum",
        matching: str | None = None,
        bank: int = 0,
        momentum: float | None = None,
        layers: Sequence[int] = (1, 2),
        widths: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__()
        _check(target, contrast, matching, bank, momentum, target_bank)
        self.target, self.target_weight, self.target_bank_size = target, target_weight, target_bank
        self.contrast, self.contrast_weight, self.matching = contrast, contrast_weight, matching
        self.layers, self.with_banks = tuple(layers), bank > 0
        self.kd = _target_loss(target, target_temperature)
        self.itc, self.itm = LayerContrastLoss(), ImageTextMatchingLoss()
        self.ranking = RankingLoss(margin, ranking_reduction)
        self.bank_contrast = BankContrastLoss()
        self.momentum = None if momentum is None else MomentumEncoder(momentum)
        self.banks = nn.ModuleDict()
        if bank:
            for kind in ("image", "text"):
                for layer in self.layers:
                    self.banks[f"{kind}{layer}"] = MemoryBank(bank, widths[layer - 1])
        if target_bank:
            self.banks["teacher"] = MemoryBank(target_bank, widths[2])
        self.student_options = {"tokens": target == "patches", "matching": matching}
        names = ["input_ids", "attention_mask", "pixel_values", "image_backbone_features", "text_hidden_states"]
        self.student_inputs = (*names, "image_ids", *(("teacher_patches",) if target == "patches" else ()))
        if not (self.banks or matching or momentum is not None or target in ("patches", "contrastive")):
            sides = [f"{kind}_layer{layer}" for kind in ("image", "text") for layer in self.layers]
            self.contrast_outputs = (*sides, "image_embeds", "text_embeds", "logit_scale")

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        """Entries that a batch must hold."""
        return TARGETS[self.target]

    def prepare(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Move the momentum encoder and let it embed the batch, before the student's own forward pass.

        Then its activations are gone when the student's are kept (section 3.2.4.3.3 and Figure 26). With gradient
        accumulation it moves at every batch, not at every step of the optimizer.
        """
        if self.momentum is None:
            return batch
        self.momentum.update(model)
        given = {name: value for name, value in self.wanted(batch).items() if name != "teacher_patches"}
        found = self.momentum(model, **given)
        sides = [(kind, layer) for kind in ("image", "text") for layer in self.layers]
        return batch | {f"momentum_{kind}{layer}": getattr(found, f"{kind}_layer{layer}") for kind, layer in sides}

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weighted parts: ``itc`` or ``ranking``, ``kd_image``, ``kd_text``, ``itm``."""
        parts = self.contrast_parts(outputs, batch) | self.row_parts(outputs, batch)
        if outputs.logit_scale.requires_grad or torch.is_grad_enabled():
            self._remember(outputs, batch)
        return parts

    def contrast_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What compares rows with each other: each picture against every text."""
        if self.contrast == "none" or not self.contrast_weight:
            return {}
        ids = batch.get("image_ids")
        if self.contrast == "ranking":
            loss = self.ranking(outputs.image_embeds, outputs.text_embeds, ids)
            return {"ranking": self.contrast_weight * loss}
        if self.with_banks or self.momentum is not None:
            losses = [self._with_bank(outputs, batch, layer, at) for at, layer in enumerate(self.layers)]
            return {"itc": self.contrast_weight * torch.stack(losses).mean()}
        images, texts = ([getattr(outputs, f"{kind}_layer{n}") for n in self.layers] for kind in ("image", "text"))
        return {"itc": self.contrast_weight * self.itc(images, texts, outputs.logit_scale, ids)}

    def _with_bank(self, outputs: Any, batch: dict[str, Any], layer: int, at: int) -> torch.Tensor:
        stored = {}
        if self.with_banks and len(self.banks[f"image{layer}"]):  # type: ignore[arg-type]
            stored = {f"{kind}_bank": self.banks[f"{kind}{layer}"].valid() for kind in ("image", "text")}  # type: ignore[operator]
        slow = {}
        if self.momentum is not None:
            slow = {f"{kind}_candidates": batch[f"momentum_{kind}{layer}"] for kind in ("image", "text")}
        image, text = getattr(outputs, f"image_layer{layer}"), getattr(outputs, f"text_layer{layer}")
        return self.bank_contrast(image, text, outputs.logit_scale[at], batch.get("image_ids"), **stored, **slow)

    def row_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What is a mean over rows: the teacher's target, and matching."""
        parts = {}
        if self.target != "none" and self.target_weight:
            found = self._distilled(outputs, batch)
            parts = {name: self.target_weight * value for name, value in found.items()}
        if self.matching is not None:
            pairs = len(outputs.itm_logits1) // 3
            labels = torch.arange(3 * pairs, device=outputs.itm_logits1.device) < pairs
            parts["itm"] = self.itm(outputs.itm_logits1, outputs.itm_logits2, labels.long())
        return parts

    def _distilled(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        image, text = outputs.image_layer3, outputs.text_layer3
        if self.target == "patches":
            words = word_mask(batch["attention_mask"])
            projected = outputs.text_reduced, outputs.teacher_reduced
            return self.kd(outputs.image_tokens3, batch["teacher_patches"], *projected, words)
        if self.target == "codes":
            codes = batch["teacher_codes"]
            return {
                f"kd_{name}": 0.5 * nn.functional.cross_entropy(logits.float(), codes)
                for name, logits in (("image", image), ("text", text))
            }
        teacher = batch[TARGETS[self.target][0]]
        if self.target == "contrastive":
            bank = self.banks["teacher"] if self.target_bank_size else None
            stored = None if bank is None or not len(bank) else bank.valid()  # type: ignore[arg-type, operator]
            return self.kd(image, text, teacher, stored, batch.get("image_ids"))
        return self.kd(image, text, teacher)

    def _remember(self, outputs: Any, batch: dict[str, Any]) -> None:
        """Push this batch to the banks; after the loss, for a row is no candidate beside itself."""
        ids = batch.get("image_ids")
        for name, bank in self.banks.items():
            if name == "teacher":
                rows = batch["teacher_cls"]
            elif self.momentum is not None:
                rows = batch[f"momentum_{name}"]
            else:
                rows = getattr(outputs, f"{name[:-1]}_layer{name[-1]}").detach()
            bank.push(rows, ids)  # type: ignore[operator]


def _target_loss(target: str, temperature: float | None) -> nn.Module:
    losses: dict[str, nn.Module] = {
        "classes": ClassDistributionLoss(),
        "cls": ClsRegressionLoss(),
        "patches": TargetCMLILoss(),
        "contrastive": ContrastiveTargetLoss(temperature),
    }
    return losses.get(target, nn.Identity())


def _check(
    target: str, contrast: str, matching: str | None, bank: int, momentum: float | None, target_bank: int
) -> None:
    for name, value, known in (
        ("target", target, tuple(TARGETS)),
        ("contrast", contrast, ("layers", "ranking", "none")),
        ("matching", matching, (None, "random", "hard")),
    ):
        if value not in known:
            raise RecipeError(f"smke: {name} must be one of {', '.join(map(repr, known))}; got {value!r}.")
    if bank < 0 or target_bank < 0:
        raise RecipeError(f"smke: a bank has 0 entries or more, got bank={bank} and target_bank={target_bank}.")
    if (bank or momentum is not None) and contrast != "layers":
        raise RecipeError("smke: a bank and a momentum encoder serve the contrast on layers; set contrast: layers.")
    if target_bank and target != "contrastive":
        raise RecipeError("smke: target_bank is for target: contrastive, the only one with negatives.")
