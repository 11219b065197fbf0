"""Configuration of the VLKD student (002_330011b7ef9ac362.txt, section 3.1)."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, BartConfig

from .compatibility import PreTrainedConfig, SubConfigSpec
from .vision_tower import VisionTowerConfig

__all__ = ["VlkdConfig"]


class VlkdConfig(PreTrainedConfig):
    """A frozen CLIP-style image tower, a text encoder, and a BART decoder that reads both.

    Args:
        vision_config: the image tower, taken over from the teacher.
        text_encoder: config of the text encoder: BART of any size (its encoder is used) or any HF encoder.
        decoder: config of the BART decoder; ``d_model`` must be the text encoder's hidden size, since W'_e starts as
            the pseudo-inverse of W_e (section 3.2.3).
        projection_dim: width d1 of the teacher's shared space.
        image_features: ``"cls"`` (the paper's ViT-B/16) or ``"all_tokens"`` (the paper's RN50x16): what V holds.
        visual_scale: factor on the L2-normalised V before W_i. The paper has none (1.0); sqrt(d1) gives V the size
            that the decoder's other inputs have.
        tie_text_embeddings: one embedding table for encoder, decoder and output layer, as BART has.
        freeze_vision: keep the image tower in eval mode and without gradient (section 3.2).
        logit_scale_init_value: log of 1 / temperature; 2.6592 is the paper's 0.07 (Table 10).
    """

    model_type = "vlkd"
    sub_configs_defaults = {
        "vision_config": VisionTowerConfig,
        "text_encoder": SubConfigSpec(config_class=AutoConfig, model_type="bart"),
        "decoder": BartConfig,
    }

    vision_config: PreTrainedConfig | dict | None = None
    text_encoder: PreTrainedConfig | dict | None = None
    decoder: PreTrainedConfig | dict | None = None
    projection_dim: int = 512
    image_features: str = "cls"
    visual_scale: float = 1.0
    tie_text_embeddings: bool = True
    freeze_vision: bool = True
    logit_scale_init_value: float = 2.6592
    initializer_range: float = 0.02
    is_encoder_decoder: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            if getattr(self, name) is None:
                setattr(self, name, getattr(self.decoder, name))
        self.tie_word_embeddings = True
        self._check()

    def _check(self) -> None:
        if self.image_features not in ("cls", "all_tokens"):
            raise ValueError(f"image_features must be 'cls' or 'all_tokens', got {self.image_features!r}.")
        if self.vision_config.projection_dim != self.projection_dim:
            raise ValueError(
                f"The image tower projects to {self.vision_config.projection_dim} dimensions and projection_dim is "
                f"{self.projection_dim}; the student lives in its teacher's space, so they must be equal."
            )
        hidden, width = self.text_encoder.hidden_size, self.decoder.d_model
        if hidden != width:
            raise ValueError(
                f"The text encoder is {hidden} wide and the decoder {width}. W'_e maps back to the encoder's space "
                "(it starts as the pseudo-inverse of W_e), so decoder.d_model must equal text_encoder.hidden_size."
            )
        if self.tie_text_embeddings and self.text_encoder.vocab_size != self.decoder.vocab_size:
            raise ValueError(
                f"The text encoder has {self.text_encoder.vocab_size} words and the decoder {self.decoder.vocab_size}; "
                "tied embeddings need one vocabulary. Use one tokenizer for both or set tie_text_embeddings=False."
            )
