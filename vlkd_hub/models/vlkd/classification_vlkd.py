"""A label for a text or a pair of texts, from a VLKD student: how the paper measures that language was kept (Table 5).

Source: 002_330011b7ef9ac362.txt, section 4.5. The paper says no more than that it runs GLUE as BART does; BART feeds
the same input to encoder and decoder and classifies the decoder's last state (Lewis et al. 2020, section 3.1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import Seq2SeqSequenceClassifierOutput
from transformers.models.bart.modeling_bart import BartClassificationHead

from .configuration_vlkd import VlkdConfig
from .modeling_vlkd import VlkdForConditionalGeneration

__all__ = ["VlkdForSequenceClassification"]


class VlkdForSequenceClassification(VlkdForConditionalGeneration):
    """Encoder and decoder read the same text, the decoder over C of equation (1); a head reads its last state.

    The weights are the student's with the head added, so a folder of this class still searches, captions and answers
    when it is loaded as a student. ``config.num_labels`` outputs; one is a regression.
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: VlkdConfig) -> None:
        super().__init__(config)
        width = config.decoder.d_model
        dropout = config.decoder.classifier_dropout
        self.classification_head = BartClassificationHead(width, width, config.num_labels, dropout)
        self.post_init()

    def forward(  # type: ignore[override]  # labels of texts in the place of tokens
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_tokens: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqSequenceClassifierOutput:
        """Score the labels of each text.

        Args:
            input_ids: the text, or both with the tokenizer's separator, ``(batch, length)``, padded on the right.
            attention_mask: ``(batch, length)``.
            labels: numbers of the right labels, or scores of a regression, ``(batch,)``.
            pixel_values: a picture that the text is about, ``(batch, 3, H, W)``; left out on GLUE.
            image_tokens: cached V instead of ``pixel_values``.
            token_type_ids: accepted because BERT tokenizers make them; one segment is all this model has.

        Returns:
            ``logits``, ``(batch, num_labels)``, and ``loss`` where labels came.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        context = self.encode_context(input_ids, attention_mask, pixel_values, image_tokens).last_hidden_state
        hidden = self.decoder(
            input_ids=self.prepare_decoder_input_ids_from_labels(input_ids),
            encoder_hidden_states=context,
            encoder_attention_mask=self._context_mask(context, attention_mask),
            use_cache=False,
        ).last_hidden_state
        last = attention_mask.sum(dim=1) - 1
        logits = self.classification_head(hidden[torch.arange(len(last), device=last.device), last])
        loss = None
        if labels is not None and self.config.num_labels == 1:
            loss = nn.functional.mse_loss(logits.squeeze(-1).float(), labels.float())
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits.float(), labels)
        return Seq2SeqSequenceClassifierOutput(loss=loss, logits=logits, encoder_last_hidden_state=context)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: this head has no words.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "A classifier gives labels, not text. Load its folder with VlkdForConditionalGeneration to write."
        )
