"""Configuration of the image vector quantizer."""

from __future__ import annotations

from typing import Any

from .compatibility import PreTrainedConfig

__all__ = ["ImageQuantizerConfig"]


class ImageQuantizerConfig(PreTrainedConfig):
    """Sizes of the quantizer and of its codebook; the defaults are Table 30's.

    Args:
        hidden_size: D, width of the teacher's class token.
        code_size: S, width of a prototype; 16 (32 led to collapse in the thesis).
        codebook_size: J, number of prototypes; 1,024 or 8,192.
        mask_probability: p, share of patches that the decoder does not see.
        num_decoder_layers: U.
        num_attention_heads: of a decoder layer.
        patch_hidden_size: width of the patch features; ``None`` is D, anything else adds a projection to the decoder.
        decoder_hidden_size: width of the decoder; ``None`` is D as in the thesis, anything else adds a projection back.
        ema_decay: d of equation (90).
        codebook_init: ``"kmeans"`` (on the first batch that trains) or ``"random"``. The thesis does not say; BEiT v2,
            which it follows, takes k-means.
        standardize: shift and scale the class token before the down-projection, and back after the decoder, by the
            mean and spread of each channel over the training pictures. Ours. The features of a network that ends in a
            ReLU share one large direction; by cosine all pictures then choose one prototype.
    """

    model_type = "vlkd_image_quantizer"

    hidden_size: int = 768
    code_size: int = 16
    codebook_size: int = 1024
    mask_probability: float = 0.9
    num_decoder_layers: int = 1
    num_attention_heads: int = 12
    patch_hidden_size: int | None = None
    decoder_hidden_size: int | None = None
    ema_decay: float = 0.99
    codebook_init: str = "kmeans"
    standardize: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if self.codebook_size < 2 or self.code_size < 1:
            raise ValueError(
                f"A codebook needs at least 2 prototypes of width 1, got {self.codebook_size} of {self.code_size}."
            )
        if not 0 <= self.mask_probability <= 1:
            raise ValueError(f"mask_probability is a share between 0 and 1, got {self.mask_probability}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}.")
        if self.codebook_init not in ("kmeans", "random"):
            raise ValueError(f"codebook_init must be 'kmeans' or 'random', got {self.codebook_init!r}.")
        if self.decoder_width % self.num_attention_heads:
            raise ValueError(
                f"The decoder's width {self.decoder_width} is no multiple of its {self.num_attention_heads} heads."
            )
        super().__post_init__(**kwargs)

    @property
    def decoder_width(self) -> int:
        """Width of the decoder's tokens."""
        return self.decoder_hidden_size or self.hidden_size
