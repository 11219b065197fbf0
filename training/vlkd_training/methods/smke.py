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
    ProximalLoss,
    RankingLoss,
    TargetCMLILoss,
)
from ..losses.gather import gather_rows
from ..losses.late_interaction import word_mask
from ..losses.memory_bank import ExampleBank, MemoryBank
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
        proximal: lambda of (69); ``None`` leaves it out. With it the banks have one slot for each training example,
            ``bank`` of them are drawn as negatives at each step, and a vector may not move far from its slot. The
            thesis rejected it for its queues and did not train it.
        examples: rows of the training data, for the slots.
        layers: the student's ``contrast_layers``.
        widths: width of h', h'', h''', for the banks.

    Raises:
        RecipeError: an option that is unknown, or that needs another.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.
    """

    picture_of: torch.Tensor

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
        proximal: float | None = None,
        examples: int = 0,
        layers: Sequence[int] = (1, 2),
        widths: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__()
        _check(target, contrast, matching, bank, momentum, target_bank)
        if proximal is not None and (not bank or momentum is not None or not examples):
            raise RecipeError(
                "smke: proximal needs bank > 0, no momentum encoder, and the number of training examples."
            )
        self.target, self.target_weight, self.target_bank_size = target, target_weight, target_bank
        self.contrast, self.contrast_weight, self.matching = contrast, contrast_weight, matching
        self.layers, self.with_banks = tuple(layers), bank > 0
        self.kd = _target_loss(target, target_temperature)
        self.itc, self.itm = LayerContrastLoss(), ImageTextMatchingLoss()
        self.ranking = RankingLoss(margin, ranking_reduction)
        self.bank_contrast = BankContrastLoss()
        self.momentum = None if momentum is None else MomentumEncoder(momentum)
        self.proximal = None if proximal is None else ProximalLoss(proximal)
        self.draws = bank
        self.banks = nn.ModuleDict()
        for name, layer in self._sides() if bank else ():
            width = widths[layer - 1]
            slots = ExampleBank(examples, width) if proximal is not None else MemoryBank(bank, width)
            self.banks[name] = slots
        self.register_buffer("picture_of", torch.zeros(examples if proximal is not None else 0, dtype=torch.long))
        if target_bank:
            self.banks["teacher"] = MemoryBank(target_bank, widths[2])
        self.student_options = {"tokens": target == "patches", "matching": matching}
        names = ["input_ids", "attention_mask", "pixel_values", "image_backbone_features", "text_hidden_states"]
        self.student_inputs = (*names, "image_ids", *(("teacher_patches",) if target == "patches" else ()))
        if not (self.banks or matching or momentum is not None or target in ("patches", "contrastive")):
            sides = [f"{kind}_layer{layer}" for kind in ("image", "text") for layer in self.layers]
            self.contrast_outputs = (*sides, "image_embeds", "text_embeds", "logit_scale")

    def _sides(self) -> list[tuple[str, int]]:
        """Name and layer of every bank: each modality of each contrast layer (Table 20)."""
        return [(f"{kind}{layer}", layer) for kind in ("image", "text") for layer in self.layers]

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
        return batch | {f"momentum_{name}": _layer_of(found, name) for name, _ in self._sides()}

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weighted parts: ``itc`` or ``ranking``, ``kd_image``, ``kd_text``, ``itm``."""
        parts = self.contrast_parts(outputs, batch) | self.row_parts(outputs, batch)
        if torch.is_grad_enabled():
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
        stored = {f"{kind}_bank": self._negatives(f"{kind}{layer}") for kind in ("image", "text")}
        stored = {name: value for name, value in stored.items() if value is not None}
        slow = {}
        if self.momentum is not None:
            slow = {f"{kind}_candidates": batch[f"momentum_{kind}{layer}"] for kind in ("image", "text")}
        image, text = getattr(outputs, f"image_layer{layer}"), getattr(outputs, f"text_layer{layer}")
        return self.bank_contrast(image, text, outputs.logit_scale[at], batch.get("image_ids"), **stored, **slow)

    def _negatives(self, name: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What a bank offers as negatives, and the picture of each; ``None`` while there is nothing."""
        bank = self.banks[name] if self.with_banks else None
        if isinstance(bank, ExampleBank):
            rows, examples = bank.draw(self.draws)
            return (rows, self.picture_of[examples]) if len(rows) else None
        return bank.valid() if isinstance(bank, MemoryBank) and len(bank) else None

    def row_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What is a mean over rows: the teacher's target, and matching."""
        parts = {}
        if self.target != "none" and self.target_weight:
            found = self._distilled(outputs, batch)
            parts = {name: self.target_weight * value for name, value in found.items()}
        if self.proximal is not None:
            moved = [self.proximal(_layer_of(outputs, name), *self._stored(name, batch)) for name, _ in self._sides()]
            parts["proximal"] = torch.stack(moved).mean()
        if self.matching is not None:
            pairs = len(outputs.itm_logits1) // 3
            labels = torch.arange(3 * pairs, device=outputs.itm_logits1.device) < pairs
            parts["itm"] = self.itm(outputs.itm_logits1, outputs.itm_logits2, labels.long())
        return parts

    def _stored(self, name: str, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        bank = self.banks[name]
        assert isinstance(bank, ExampleBank)
        return bank.stored(batch["row"])

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
            stored = bank.valid() if isinstance(bank, MemoryBank) and len(bank) else None
            return self.kd(image, text, teacher, stored, batch.get("image_ids"))
        return self.kd(image, text, teacher)

    def _remember(self, outputs: Any, batch: dict[str, Any]) -> None:
        """Push this batch to the banks; after the loss, for a row is no candidate beside itself."""
        if not self.banks:
            return
        ids = batch["image_ids"]
        for name, bank in self.banks.items():
            if isinstance(bank, ExampleBank):
                bank.update(_layer_of(outputs, name).detach(), batch["row"])
                self.picture_of[gather_rows(batch["row"])] = gather_rows(ids)
            elif isinstance(bank, MemoryBank):
                if name == "teacher":
                    rows = batch["teacher_cls"]
                elif self.momentum is not None:
                    rows = batch[f"momentum_{name}"]
                else:
                    rows = _layer_of(outputs, name).detach()
                bank.push(rows, ids)


def _layer_of(outputs: Any, name: str) -> torch.Tensor:
    """``"image2"`` -> ``image_layer2``."""
    found: torch.Tensor = getattr(outputs, f"{name[:-1]}_layer{name[-1]}")
    return found


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
