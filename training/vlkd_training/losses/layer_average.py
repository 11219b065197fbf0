"""The mean of all layers of a unimodal teacher, at every time step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .guards import require_finite

__all__ = ["LayerAverageLoss"]


class LayerAverageLoss(nn.Module):
    r"""Mean squared error between averaged, normalised layers of student and teacher.

    Each layer's output goes through InstanceNorm over time, h'_jd = (h_jd - mu_d) / sqrt(sigma_d^2 + eps) with mean and
    variance of each dimension over the T time steps of that sample, equations (36)-(38); layers are averaged, (39);
    a LayerNorm without parameters follows, (40); both sides alike. The loss of a sample is the mean over all time
    steps, the class token's among them, of the mean squared error over the width, (41); the batch is averaged.

    The text under (36) adds eps to the standard deviation, the equation to the variance; the equation is taken.
    Sequences of the thesis have no padding (pictures, and text in slices of full length). With ``attention_mask``,
    ours, padding enters neither mu and sigma nor the loss, and each sample is averaged over its own length, as in (41).

    Args:
        eps: of the InstanceNorm; 1e-8 in the text under (36).

    Source: 004_3cb4412af0da3ec5.txt, section 3.1.1.1, equations (36)-(41).
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(
        self,
        student_layers: Sequence[torch.Tensor],
        teacher_layers: Sequence[torch.Tensor],
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compare the averages of two encoders over the same sequences.

        Args:
            student_layers: outputs of the student's L_s layers, without the embeddings (Hugging Face's
                ``hidden_states[1:]``), each ``(batch, time, width)``.
            teacher_layers: of the teacher's L_t layers, the same shape; no gradient flows into them.
            attention_mask: 1 or true where there is no padding, shape ``(batch, time)``.

        Returns:
            A scalar.

        Raises:
            ValueError: no layer, layers of different shapes, a mask of another shape, a sequence of fewer than two
                time steps (its InstanceNorm is always 0), or a teacher that is not finite.
        """
        shape = self._check(student_layers, teacher_layers)
        if attention_mask is None:
            attention_mask = torch.ones(shape[:2], dtype=torch.bool, device=teacher_layers[0].device)
        if attention_mask.shape != shape[:2]:
            raise ValueError(f"attention_mask has shape {tuple(attention_mask.shape)}, the layers {tuple(shape)}.")
        real = attention_mask.bool().unsqueeze(-1)  # (B, T, 1)
        steps = real.sum(dim=1, keepdim=True)  # (B, 1, 1)
        if int(steps.min()) < 2:
            raise ValueError(
                "A sequence has fewer than 2 time steps: normalised over time it is always 0 and trains nothing."
            )
        with torch.no_grad():
            target = self._average(teacher_layers, real, steps)
        require_finite("The teacher's layers", target)
        errors = (self._average(student_layers, real, steps) - target).pow(2).mean(dim=-1, keepdim=True)  # (B, T, 1)
        return (errors.sum(dim=1, keepdim=True) / steps).mean()

    def _check(self, student_layers: Sequence[torch.Tensor], teacher_layers: Sequence[torch.Tensor]) -> torch.Size:
        if not student_layers or not teacher_layers:
            raise ValueError(
                f"Got {len(student_layers)} layers of the student and {len(teacher_layers)} of the teacher."
            )
        shape = teacher_layers[0].shape
        for name, layers in (("student", student_layers), ("teacher", teacher_layers)):
            for number, layer in enumerate(layers, start=1):
                if layer.shape != shape or layer.dim() != 3:
                    raise ValueError(
                        f"Layer {number} of the {name} has shape {tuple(layer.shape)}, layer 1 of the teacher "
                        f"{tuple(shape)}; all must be (batch, time, width), with equal widths and lengths."
                    )
        return shape

    def _average(self, layers: Sequence[torch.Tensor], real: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Equations (36)-(40) for one side, ``(B, T, D)``; 0 at padding, on both sides alike."""
        total = torch.zeros_like(layers[0], dtype=torch.float32)
        for layer in layers:
            hidden = layer.float().masked_fill(~real, 0.0)
            centred = (hidden - hidden.sum(dim=1, keepdim=True) / steps).masked_fill(~real, 0.0)
            variance = centred.pow(2).sum(dim=1, keepdim=True) / steps  # (B, 1, D)
            total = total + centred * (variance + self.eps).rsqrt()
        return nn.functional.layer_norm(total / len(layers), total.shape[-1:])
