"""The VLKD student: CLIP's image tower, a text encoder in CLIP's space, a BART decoder over both.

Source: "Enabling Multimodal Generation on CLIP via Vision-Language Knowledge Distillation"
(002_330011b7ef9ac362.txt), section 3. Symbols of the paper stand in comments.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.bart.modeling_bart import BartDecoder, BartEncoder, shift_tokens_right

from .configuration_vlkd import VlkdConfig
from .outputs_vlkd import VlkdContext, VlkdOutput, VlkdSeq2SeqOutput
from .vision_tower import VisionTower, VisionTowerOutput

__all__ = ["VlkdForConditionalGeneration", "VlkdModel", "VlkdPreTrainedModel"]


class DecoderProjection(nn.Linear):
    """W_i or W'_e: starts so as to keep the size of what comes in, that the decoder may see it from its first step."""


class VlkdPreTrainedModel(PreTrainedModel):
    """Weight initialisation and the names the Hugging Face loader needs."""

    config_class = VlkdConfig
    base_model_prefix = "vlkd"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    _supports_sdpa = True
    _no_split_modules = ["BartDecoderLayer", "BartEncoderLayer", "BertLayer"]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, DecoderProjection):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            return
        super()._init_weights(module)
        if isinstance(module, VlkdModel):
            nn.init.constant_(module.logit_scale, self.config.logit_scale_init_value)


class VlkdModel(VlkdPreTrainedModel):
    """The dual encoder: pictures and texts as unit vectors in the teacher's space."""

    # A checkpoint of VlkdForConditionalGeneration loads here too; its generating half is not needed.
    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^lm_head\.", r"^image_to_decoder\.", r"^text_to_decoder\."]

    def __init__(self, config: VlkdConfig) -> None:
        super().__init__(config)
        self.vision_tower = VisionTower(config.vision_config)
        self.text_encoder = _build_text_encoder(config.text_encoder)
        self.text_projection = nn.Linear(config.text_encoder.hidden_size, config.projection_dim, bias=False)  # W_e
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()
        if config.freeze_vision:
            self.vision_tower.requires_grad_(False)

    def train(self, mode: bool = True) -> VlkdModel:
        """Switch mode; a frozen image tower stays in eval mode (dropout off, batch statistics fixed)."""
        super().train(mode)
        if self.config.freeze_vision:
            self.vision_tower.eval().requires_grad_(False)  # loading a checkpoint makes every parameter trainable
        return self

    def image_tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """V of section 3.2: the class vector first, then every location, each L2-normalised.

        Args:
            pixel_values: shape ``(batch, 3, H, W)``.

        Returns:
            Shape ``(batch, 1 + locations, projection_dim)``; ``(batch, 1, projection_dim)`` when
            ``config.image_features`` is ``"cls"``.
        """
        return self.tokens_from_tower(self.vision_tower(pixel_values=pixel_values))

    def tokens_from_tower(self, output: VisionTowerOutput) -> torch.Tensor:
        """Put a tower's output in the form of :meth:`image_tokens`."""
        tokens = cast(torch.Tensor, output.image_embeds).unsqueeze(1)
        if self.config.image_features == "all_tokens":
            tokens = torch.cat([tokens, cast(torch.Tensor, output.token_embeds)], dim=1)
        return nn.functional.normalize(tokens, dim=-1)

    def project_text(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return e_norm, shape ``(batch, projection_dim)``, and W_e E, shape ``(batch, length, projection_dim)``.

        The sentence is the mean of all encoder outputs (section 3.2.1); W_e is linear, so the mean may be taken
        after it.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state
        projected = self.text_projection(hidden)  # W_e E, (B, T, d1)
        weights = attention_mask.unsqueeze(-1).to(projected.dtype)
        mean = (projected * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        return nn.functional.normalize(mean, dim=-1), projected

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Embed pictures: unit vectors in ``pooler_output``, all of V in ``last_hidden_state``."""
        tokens = self.image_tokens(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens[:, 0])

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Embed texts: unit vectors in ``pooler_output``, W_e E in ``last_hidden_state``."""
        embeds, projected = self.project_text(input_ids, attention_mask, **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=projected, pooler_output=embeds)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> VlkdOutput:
        """Embed pictures, texts, or both; with both, score every picture against every text.

        Raises:
            ValueError: neither a picture nor a text came.
        """
        if input_ids is None and pixel_values is None:
            raise ValueError("VlkdModel needs pixel_values, input_ids, or both; got neither.")
        found: dict[str, torch.Tensor] = {}
        if pixel_values is not None:
            tokens = self.image_tokens(pixel_values)
            found |= {"last_hidden_state": tokens, "pooler_output": tokens[:, 0], "image_embeds": tokens[:, 0]}
        if input_ids is not None:
            extra = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            found["text_embeds"], _ = self.project_text(input_ids, attention_mask, **extra)
        if pixel_values is not None and input_ids is not None:
            found["logits_per_image"] = self.logit_scale.exp() * found["image_embeds"] @ found["text_embeds"].t()
            found["logits_per_text"] = found["logits_per_image"].t()
        # Given at once: a field that is set later is an attribute, and not one of the output's items.
        return VlkdOutput(**found)


class VlkdForConditionalGeneration(VlkdPreTrainedModel, GenerationMixin):
    """Writes text from a picture, a text, or both: captions, answers, and plain text infilling."""

    def __init__(self, config: VlkdConfig) -> None:
        super().__init__(config)
        self.vlkd = VlkdModel(config)
        width = config.decoder.d_model
        self.image_to_decoder = DecoderProjection(config.projection_dim, width, bias=False)  # W_i
        self.text_to_decoder = DecoderProjection(config.projection_dim, width, bias=False)  # W'_e
        self.decoder = BartDecoder(config.decoder)
        self.lm_head = nn.Linear(width, config.decoder.vocab_size, bias=False)
        # Keys are tied to one source table; without post_init the ties would silently not be made.
        source = "decoder.embed_tokens.weight"
        self._tied_weights_keys = {"lm_head.weight": source}
        if config.tie_text_embeddings:
            source = f"vlkd.text_encoder.{_embedding_name(self.vlkd.text_encoder)}"
            self._tied_weights_keys = {"lm_head.weight": source, "decoder.embed_tokens.weight": source}
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.vlkd.text_encoder.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def _tie_weights(self) -> None:
        """Tie by the names above, for transformers 4, which knows only one tie and calls this after it."""
        for target, source in self._tied_weights_keys.items():
            self.get_submodule(target.rpartition(".")[0]).weight = self.get_parameter(source)

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """``generate`` asks for the text side's encoder; the context is made by :meth:`encode_context`."""
        return self.vlkd.vision_tower if modality == "image" else self.vlkd.text_encoder

    def encode_image(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return v_cls, ``(batch, projection_dim)``, and W_i V, ``(batch, image tokens, d_model)``."""
        return self._project_image(self.vlkd.image_tokens(pixel_values))

    def _project_image(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return tokens[:, 0], self.image_to_decoder(tokens * self.config.visual_scale)

    def encode_text(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return e_norm, ``(batch, projection_dim)``, and W'_e W_e E, ``(batch, length, d_model)``."""
        embeds, projected = self.vlkd.project_text(input_ids, attention_mask)
        return embeds, self.text_to_decoder(projected)

    def encode_context(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_tokens: torch.Tensor | None = None,
    ) -> VlkdContext:
        """Equation (1): C = concat(W_i V, W'_e W_e E); without a picture C is the text part alone.

        Args:
            input_ids: the prompt or the corrupted text, ``(batch, length)``.
            attention_mask: ``(batch, length)``.
            pixel_values: ``(batch, 3, H, W)``.
            image_tokens: V as :meth:`VlkdModel.image_tokens` returns it, cached, instead of ``pixel_values``.

        Raises:
            ValueError: pictures and texts differ in number, or a picture came in both forms.
        """
        if pixel_values is not None and image_tokens is not None:
            raise ValueError("Give the picture once: pixel_values or cached image_tokens, not both.")
        text_embeds, states = self.encode_text(input_ids, attention_mask)
        image_embeds = None
        if pixel_values is not None:
            image_tokens = self.vlkd.image_tokens(pixel_values)
        if image_tokens is not None:
            if image_tokens.shape[0] != input_ids.shape[0]:
                raise ValueError(
                    f"{image_tokens.shape[0]} pictures came with {input_ids.shape[0]} texts; give one text a picture."
                )
            image_embeds, visual = self._project_image(image_tokens)
            states = torch.cat([visual.to(states.dtype), states], dim=1)
        return VlkdContext(last_hidden_state=states, image_embeds=image_embeds, text_embeds=text_embeds)

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_tokens: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Write text for prompts and pictures: greedy, beam search or sampling, as ``GenerationMixin.generate``.

        Args:
            inputs: the prompts, ``(batch, length)``; ``input_ids=`` is the same.
            attention_mask: of the prompts.
            pixel_values: one picture a prompt, or none for text-only work.
            image_tokens: cached V instead of ``pixel_values``.
            token_type_ids: accepted and ignored, since BERT tokenizers make them.
            **kwargs: everything else that ``generate`` takes.
        """
        input_ids = kwargs.pop("input_ids", inputs)
        if kwargs.get("encoder_outputs") is None:
            if input_ids is None:
                raise ValueError("generate() needs a prompt in input_ids, for example from VlkdProcessor.build_prompt.")
            kwargs["encoder_outputs"] = self.encode_context(input_ids, attention_mask, pixel_values, image_tokens)
        return super().generate(input_ids, attention_mask=attention_mask, **kwargs)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Shift the targets right and start them with ``decoder_start_token_id``."""
        return shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_tokens: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: VlkdContext | None = None,
        past_key_values: Any = None,
        labels: torch.Tensor | None = None,
        clean_input_ids: torch.Tensor | None = None,
        clean_attention_mask: torch.Tensor | None = None,
        labelled_logits_only: bool = False,
        use_cache: bool | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> VlkdSeq2SeqOutput:
        """One pass of encoder and decoder.

        Args:
            input_ids: prompt or corrupted text, ``(batch, length)``; not needed when ``encoder_outputs`` is given.
            attention_mask: of ``input_ids``.
            pixel_values: pictures, ``(batch, 3, H, W)``; leave out for text-only work.
            image_tokens: cached V instead of ``pixel_values``, ``(batch, 1 + locations, projection_dim)``.
            decoder_input_ids: ``(batch, target length)``; made from ``labels`` when absent.
            decoder_attention_mask: of ``decoder_input_ids``.
            encoder_outputs: the context, when it was made before.
            past_key_values: the decoder's cache.
            labels: targets, -100 where there is none.
            clean_input_ids: the uncorrupted text, when its embedding is wanted too (TTDM and ITCL), in one pass.
            clean_attention_mask: of ``clean_input_ids``.
            labelled_logits_only: logits only where ``labels`` is not -100, and no loss: for a method with its own.
            use_cache: return a cache for the next step.
            token_type_ids: accepted because BERT tokenizers make them; one segment is all this model has.

        Raises:
            ValueError: nothing to encode, or nothing to decode.
        """
        if encoder_outputs is None:
            if input_ids is None:
                raise ValueError("Give input_ids (the prompt, for example 'A picture of [MASK].') or encoder_outputs.")
            encoder_outputs = self.encode_context(input_ids, attention_mask, pixel_values, image_tokens)
        context = encoder_outputs[0] if isinstance(encoder_outputs, tuple) else encoder_outputs.last_hidden_state
        if labels is not None and decoder_input_ids is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if decoder_input_ids is None:
            raise ValueError("Give labels or decoder_input_ids; to write text from a prompt call generate().")
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=context,
            encoder_attention_mask=self._context_mask(context, attention_mask),
            past_key_values=past_key_values,
            use_cache=bool(use_cache) and labels is None,
        )
        hidden, loss = decoded.last_hidden_state, None
        if labelled_logits_only and labels is not None:
            hidden = hidden[labels != -100]
        logits = self.lm_head(hidden)
        if labels is not None and not labelled_logits_only:
            loss = nn.functional.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=-100)
        text_embeds = getattr(encoder_outputs, "text_embeds", None)
        if clean_input_ids is not None:
            text_embeds, _ = self.vlkd.project_text(clean_input_ids, clean_attention_mask)
        return VlkdSeq2SeqOutput(
            loss=loss,
            logits=logits,
            past_key_values=decoded.past_key_values,
            encoder_last_hidden_state=context,
            image_embeds=getattr(encoder_outputs, "image_embeds", None),
            text_embeds=text_embeds,
            logit_scale=self.vlkd.logit_scale.exp(),
        )

    @staticmethod
    def _context_mask(context: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor | None:
        """Image tokens come first and are all real; the text's mask follows."""
        if attention_mask is None:
            return None
        visible = attention_mask.new_ones(context.shape[0], context.shape[1] - attention_mask.shape[1])
        return torch.cat([visible, attention_mask], dim=1)


def _build_text_encoder(config: Any) -> PreTrainedModel:
    """BART brings its encoder half; any other config becomes its AutoModel, without an unused pooler."""
    if config.model_type == "bart":
        return BartEncoder(config)
    pooler = {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta") else {}
    return AutoModel.from_config(config, trust_remote_code=False, **pooler)


def _embedding_name(text_encoder: PreTrainedModel) -> str:
    """Dotted name of the encoder's word table inside it, for the tie."""
    table = text_encoder.get_input_embeddings()
    return next(f"{name}.weight" for name, module in text_encoder.named_modules() if module is table)
