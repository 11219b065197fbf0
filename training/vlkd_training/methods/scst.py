"""Self-critical sequence training: a captioner learns from the score of what it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from vlkd_hub.errors import RecipeError

from .base import Method

__all__ = ["SCSTMethod", "sequence_labels"]


class SCSTMethod(Method):
    r"""Policy gradient with the score of the greedy caption as its baseline.

    L = -1/B sum_k (r(w^k) - r(g^k)) sum_t log p(w_t^k | w_<t^k, picture)

    with w sampled from the student and g its greedy caption. A sample that scores above what the student would write
    at test time becomes likelier, one below becomes less likely.

    Args:
        reward: maps captions and their rows to scores.
        processor: decodes captions and knows how long they may be.
        temperature: of the samples.
        samples: drawn for each picture; the baseline is shared.
        baseline: ``"greedy"``, the score of the greedy caption; or ``"samples"``, for each sample the mean score of
            the picture's other samples, which stays fair where samples are far worse than the greedy caption (a student
            trained with label smoothing, or a hot temperature) and every sample would only be made less likely.
        max_new_tokens: length of a caption; the processor's where left out.

    Source: "Self-critical Sequence Training for Image Captioning" (arXiv:1612.00563), equations 7 and 8;
    002_330011b7ef9ac362.txt, Table 1, "w/ SCST"; the baseline of the other samples: "A Better Variant of Self-Critical
    Sequence Training" (arXiv:2003.09971).
    """

    student_inputs = ("input_ids", "attention_mask", "pixel_values", "image_tokens", "labels")
    student_options = {"labelled_logits_only": True}

    def __init__(
        self,
        reward: Callable[[Sequence[str], Sequence[int]], np.ndarray],
        processor: Any,
        temperature: float = 1.0,
        samples: int = 1,
        max_new_tokens: int | None = None,
        baseline: str = "greedy",
    ) -> None:
        super().__init__()
        if temperature <= 0 or samples < 1:
            raise RecipeError(f"scst needs temperature > 0 and samples >= 1, got {temperature} and {samples}.")
        if baseline not in ("greedy", "samples") or (baseline == "samples" and samples < 2):
            raise RecipeError(
                f"scst's baseline is 'greedy', or 'samples' with two samples or more; got {baseline!r} and {samples}."
            )
        self.reward, self.processor, self.baseline = reward, processor, baseline
        self.temperature, self.samples = temperature, samples
        self.max_new_tokens = max_new_tokens or processor.generation_kwargs("caption").get("max_new_tokens", 32)

    @torch.no_grad()
    def prepare(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Write captions, the greedy one too where it is the baseline; add ``labels`` and ``advantage``."""
        given = {name: batch[name] for name in self.student_inputs if name in batch and name != "labels"}
        rows = batch["row"].tolist()
        training = model.training
        model.eval()
        limits = {"max_new_tokens": self.max_new_tokens, "num_beams": 1}
        greedy = model.generate(**given, do_sample=False, **limits) if self.baseline == "greedy" else None
        many = {name: value.repeat_interleave(self.samples, dim=0) for name, value in given.items()}
        sampled = model.generate(**many, do_sample=True, temperature=self.temperature, top_k=0, **limits)
        model.train(training)
        baseline = None if greedy is None else np.repeat(self.reward(self._texts(greedy), rows), self.samples)
        score = self.reward(self._texts(sampled), [row for row in rows for _ in range(self.samples)])
        advantage = score - (self._others(score) if baseline is None else baseline)
        labels = sequence_labels(sampled, model.config.eos_token_id, model.config.pad_token_id)
        return batch | many | {"labels": labels, "advantage": torch.from_numpy(advantage).float().to(labels.device)}

    def _others(self, score: np.ndarray) -> np.ndarray:
        """Mean score of each sample's siblings."""
        table = score.reshape(-1, self.samples)
        return ((table.sum(axis=1, keepdims=True) - table) / (self.samples - 1)).reshape(-1)

    def _texts(self, ids: torch.Tensor) -> list[str]:
        return self.processor.post_process_image_text_to_text(ids)

    def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the one part, ``scst``: its value says little, its gradient raises the expected score."""
        return self.row_parts(outputs, batch)

    def row_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """A mean over sampled captions."""
        labels, advantage = batch["labels"], batch["advantage"]
        wanted = labels != -100
        losses = nn.functional.cross_entropy(
            outputs.logits.float() / self.temperature, labels[wanted], reduction="none"
        )
        rows = torch.arange(len(labels), device=labels.device).unsqueeze(1).expand_as(labels)[wanted]
        return {"scst": (losses * advantage[rows]).sum() / len(labels)}


def sequence_labels(ids: torch.Tensor, eos: int | list[int], pad: int) -> torch.Tensor:
    """Turn generated ids into targets: without the start token, and -100 after the first end token.

    Args:
        ids: as ``generate`` returns them, start token first, shape ``(batch, 1 + length)``.
        eos: id or ids of the end token.
        pad: id that fills up finished rows.

    Returns:
        Shape ``(batch, length)``.
    """
    targets = ids[:, 1:]
    ends = torch.isin(targets, torch.tensor(eos if isinstance(eos, list) else [eos], device=ids.device))
    after = ends.long().cumsum(dim=1) - ends.long() > 0
    return targets.masked_fill(after | ((targets == pad) & ~ends), -100)
