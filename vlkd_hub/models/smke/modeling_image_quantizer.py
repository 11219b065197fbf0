"""The image vector quantizer: a teacher's class token becomes one of J prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_image_quantizer import ImageQuantizerConfig
from .image_codebook import ImageCodebook

__all__ = ["ImageQuantizerModel", "ImageQuantizerOutput"]


@dataclass
class ImageQuantizerOutput(ModelOutput):
    """What the loss of equation (88) is made of.

    Attributes:
        reconstruction: h_F, the decoder's class token, shape ``(batch, D)``.
        projected: z = h W_down, shape ``(batch, S)``.
        prototypes: q_m as it was chosen, before this batch moved it, shape ``(batch, S)``; no gradient.
        codes: m, shape ``(batch,)``.
    """

    reconstruction: torch.FloatTensor | None = None
    projected: torch.FloatTensor | None = None
    prototypes: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None


class ImageQuantizerModel(PreTrainedModel):
    r"""Down-projection, codebook, up-projection, and a decoder that must rebuild the class token.

    z = h W_down, m by cosine (86), q_m with a straight-through gradient, and a Transformer over
    [q_m W_up, Omega(h_1), ..., Omega(h_N)] (87) in which a patch is the mask token with probability p. The decoder's
    class token is the reconstruction. (87) prints ``W_b`` with an arrow down for the up-projection.

    Which patches: (87) names h_{v,0,n}, the teacher's patch embeddings before its first layer, its left side says
    layer L_t, and the text lets them enter "the Transformer layers of the BEiT v2 model". This model takes the patch
    features that it is given, of any layer and number; positions are in them, and no more are added. Features of a low
    layer leave the picture's content to the prototype, which is what the thesis is after.

    In training each forward pass also moves the codebook; the loss is
    ``vlkd_training.losses.ImageQuantizationLoss``.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.7.2, equations (86)-(90); sizes in Table 30.
    """

    config_class = ImageQuantizerConfig
    base_model_prefix = "image_quantizer"
    main_input_name = "teacher_cls"
    _supports_sdpa = True
    cls_mean: torch.Tensor
    cls_spread: torch.Tensor

    def __init__(self, config: ImageQuantizerConfig) -> None:
        super().__init__(config)
        width, patches = config.decoder_width, config.patch_hidden_size or config.hidden_size
        if config.standardize:
            self.register_buffer("cls_mean", torch.zeros(config.hidden_size))
            self.register_buffer("cls_spread", torch.ones(config.hidden_size))
        self.down = nn.Linear(config.hidden_size, config.code_size, bias=False)
        self.up = nn.Linear(config.code_size, width, bias=False)
        self.codebook = ImageCodebook(config.codebook_size, config.code_size, config.ema_decay, config.codebook_init)
        self.patch_projection = nn.Identity() if patches == width else nn.Linear(patches, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.decoder = nn.ModuleList(
            Block(width, config.num_attention_heads, qkv_bias=True) for _ in range(config.num_decoder_layers)
        )
        self.output = nn.Identity() if width == config.hidden_size else nn.Linear(width, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ImageCodebook):
            module.reset_parameters()
        if isinstance(module, ImageQuantizerModel):
            nn.init.normal_(module.mask_token, std=self.config.initializer_range)
            if self.config.standardize:
                nn.init.zeros_(module.cls_mean)
                nn.init.ones_(module.cls_spread)

    @torch.no_grad()
    def fit_standardization(self, teacher_cls: torch.Tensor) -> None:
        """Take mean and spread of each channel, which ``standardize`` uses; a channel that never changes keeps 1.

        Args:
            teacher_cls: class tokens of the training pictures, shape ``(pictures, D)``.

        Raises:
            ValueError: another shape, fewer than two pictures, or a model that does not standardize.

        Source: ours.
        """
        if not self.config.standardize:
            raise ValueError("This quantizer does not standardize: its config says standardize=False.")
        if teacher_cls.dim() != 2 or len(teacher_cls) < 2 or teacher_cls.shape[1] != self.config.hidden_size:
            raise ValueError(
                f"Mean and spread are taken over class tokens (pictures, {self.config.hidden_size}) of at least 2 "
                f"pictures, got {tuple(teacher_cls.shape)}."
            )
        rows = teacher_cls.double()
        spread = rows.std(dim=0)
        self.cls_mean.copy_(rows.mean(dim=0))
        self.cls_spread.copy_(torch.where(spread > 0, spread, 1.0))

    def encode(self, teacher_cls: torch.Tensor) -> torch.Tensor:
        """Return the prototype of each picture.

        Args:
            teacher_cls: the teacher's class token, shape ``(batch, D)``.

        Returns:
            m, from 0 to J - 1, shape ``(batch,)``.
        """
        return self.codebook.choose(self._project(teacher_cls))

    def forward(self, teacher_cls: torch.Tensor, teacher_patches: torch.Tensor, **kwargs: Any) -> ImageQuantizerOutput:
        """Quantize class tokens and rebuild them; in training mode the codebook moves.

        Args:
            teacher_cls: h_{v,L_t,[I_CLS]} of the frozen teacher, shape ``(batch, D)``.
            teacher_patches: its patch features, shape ``(batch, patches, width)``.

        Raises:
            ValueError: other shapes.
        """
        projected = self._project(teacher_cls)
        if self.training:
            self.codebook.start(projected)
        codes = self.codebook.choose(projected)
        prototypes = self.codebook.prototypes[codes]
        if self.training:
            self.codebook.update(projected, codes)
        through = projected + (prototypes - projected).detach()  # value q_m, gradient of z
        hidden = torch.cat([self.up(through).unsqueeze(1), self._masked(teacher_patches)], dim=1)  # (B, 1 + N, width)
        for layer in self.decoder:
            hidden = layer(hidden)
        rebuilt = self.output(hidden[:, 0])
        if self.config.standardize:
            rebuilt = rebuilt * self.cls_spread + self.cls_mean
        return ImageQuantizerOutput(reconstruction=rebuilt, projected=projected, prototypes=prototypes, codes=codes)

    def _masked(self, patches: torch.Tensor) -> torch.Tensor:
        """Omega of equation (87): the mask token where p > alpha, alpha uniform, of each patch alone."""
        width = self.config.patch_hidden_size or self.config.hidden_size
        if patches.dim() != 3 or patches.shape[2] != width:
            raise ValueError(f"Patch features must be (batch, patches, {width}), got {tuple(patches.shape)}.")
        tokens = self.patch_projection(patches.to(self.mask_token.dtype))
        hidden = torch.rand(tokens.shape[:2], device=tokens.device) < self.config.mask_probability  # (B, N)
        return torch.where(hidden.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)

    def _project(self, teacher_cls: torch.Tensor) -> torch.Tensor:
        """z, ``(batch, D)`` to ``(batch, S)``, in float32."""
        if teacher_cls.dim() != 2 or teacher_cls.shape[1] != self.config.hidden_size:
            raise ValueError(
                f"Class tokens must be (batch, {self.config.hidden_size}), got {tuple(teacher_cls.shape)}."
            )
        rows = teacher_cls.to(self.down.weight.dtype)
        if self.config.standardize:
            rows = (rows - self.cls_mean) / self.cls_spread
        return self.down(rows).float()
