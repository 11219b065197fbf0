"""Image-text contrast on several layers of the shared encoder, each with its own temperature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .itcl import ITCLLoss

__all__ = ["LayerContrastLoss"]


class LayerContrastLoss(nn.Module):
    r"""Mean over layers of CLIP's symmetric contrast.

    L_CL = 1/K sum_k 1/2 (L_CL_k^i2t + L_CL_k^t2i): equation (47) with K = 3 for the MLP (h', h'', h'''; six terms of
    1/6), equation (53) with K = 2 for the shared Transformer (h', h''; four terms of 1/4). Each layer's rows are
    L2-normalised here, equations (23)-(26), and each layer has its own temperature; layers may differ in width.

    The contrast is ``ITCLLoss``: candidates of every process are gathered with gradient, and with ``image_ids`` other
    captions of the same picture are no negatives.

    Source: 004_3cb4412af0da3ec5.txt, sections 3.2.1.1.2 and 3.2.1.3, equations (27)-(29), (34), (35), (47) and (53).
    """

    def __init__(self) -> None:
        super().__init__()
        self.contrast = ITCLLoss()

    def forward(
        self,
        image_layers: Sequence[torch.Tensor],
        text_layers: Sequence[torch.Tensor],
        logit_scale: torch.Tensor,
        image_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Contrast the pairs of a batch on each layer.

        Args:
            image_layers: outputs of the K layers for the pictures, not normalised, each ``(batch, its width)``.
            text_layers: the same layers' outputs for the captions; row k belongs to picture k.
            logit_scale: exp(t) of each layer, as it multiplies the cosines, shape ``(K,)``.
            image_ids: which picture each row shows, shape ``(batch,)``.

        Returns:
            A scalar.

        Raises:
            ValueError: no layer, another number of layers or temperatures, a layer that is not ``(batch, width)``, a
                temperature that is not positive and finite, ids of another length, or one pair alone.
        """
        layers = len(image_layers)
        if layers == 0 or len(text_layers) != layers:
            raise ValueError(f"Got {layers} layers of pictures and {len(text_layers)} of captions; both need K > 0.")
        if logit_scale.shape != (layers,):
            raise ValueError(
                f"Got logit_scale of shape {tuple(logit_scale.shape)} for {layers} layers; each layer has its own "
                f"temperature, so it must be ({layers},)."
            )
        if not (torch.isfinite(logit_scale).all() and (logit_scale > 0).all()):
            raise ValueError(f"logit_scale must be exp(t), positive and finite; got {logit_scale.tolist()}.")
        if image_ids is not None and image_ids.shape != image_layers[0].shape[:1]:
            raise ValueError(
                f"image_ids have shape {tuple(image_ids.shape)}; one id a row is ({image_layers[0].shape[0]},)."
            )
        losses = [
            self._one_layer(number, images, texts, scale, image_ids)
            for number, (images, texts, scale) in enumerate(
                zip(image_layers, text_layers, logit_scale.unbind(), strict=True), start=1
            )
        ]
        return torch.stack(losses).mean()

    def _one_layer(
        self,
        number: int,
        images: torch.Tensor,
        texts: torch.Tensor,
        scale: torch.Tensor,
        image_ids: torch.Tensor | None,
    ) -> torch.Tensor:
        if images.dim() != 2:
            raise ValueError(
                f"Layer {number} of the pictures has shape {tuple(images.shape)}; the contrast takes one vector a "
                "picture, (batch, width): the class token's."
            )
        images, texts = (nn.functional.normalize(rows.float(), dim=-1) for rows in (images, texts))
        loss: torch.Tensor = self.contrast(images, texts, scale, image_ids)
        return loss
