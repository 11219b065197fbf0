"""What optimum's exporter must know of each model type: its inputs, its outputs, and where its sizes stand."""

from __future__ import annotations

from optimum.exporters.onnx.config import TextAndVisionOnnxConfig, VisionOnnxConfig
from optimum.utils.input_generators import DummyTextInputGenerator, DummyVisionInputGenerator
from optimum.utils.normalized_config import NormalizedTextAndVisionConfig, NormalizedVisionConfig

__all__ = ["DualEncoderOnnxConfig", "VlkdImageOnnxConfig", "VlkdOnnxConfig"]

Axes = dict[str, dict[int, str]]


class DualEncoderOnnxConfig(TextAndVisionOnnxConfig):
    """Pictures and texts in, scores and unit vectors out, as optimum has it for CLIP.

    The picture's size stays fixed: a token grid of another size would need other position embeddings.
    """

    NORMALIZED_CONFIG_CLASS = NormalizedTextAndVisionConfig.with_args(
        text_config="text_config", vision_config="vision_config", allow_new=True
    )
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, DummyVisionInputGenerator)

    @property
    def inputs(self) -> Axes:
        """Name -> number of each dynamic dimension -> its name."""
        text = {0: "text_batch_size", 1: "sequence_length"}
        return {"input_ids": text, "pixel_values": {0: "image_batch_size"}, "attention_mask": text}

    @property
    def outputs(self) -> Axes:
        """See :attr:`inputs`; in the order of the models' outputs, by which the exporter names them."""
        images, texts = "image_batch_size", "text_batch_size"
        return {
            "logits_per_image": {0: images, 1: texts},
            "logits_per_text": {0: texts, 1: images},
            "image_embeds": {0: images},
            "text_embeds": {0: texts},
        }


class VlkdOnnxConfig(DualEncoderOnnxConfig):
    """The search half of a VLKD student; its text encoder stands under another name."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextAndVisionConfig.with_args(
        text_config="text_encoder", vision_config="vision_config", allow_new=True
    )


class VlkdImageOnnxConfig(VisionOnnxConfig):
    """Pictures alone: V of the paper (the class vector first) in ``last_hidden_state``, and ``pooler_output``."""

    NORMALIZED_CONFIG_CLASS = NormalizedVisionConfig.with_args(image_size="vision_config.image_size", allow_new=True)

    @property
    def inputs(self) -> Axes:
        """See :class:`DualEncoderOnnxConfig`."""
        return {"pixel_values": {0: "batch_size"}}

    @property
    def outputs(self) -> Axes:
        """See :attr:`inputs`."""
        return {"last_hidden_state": {0: "batch_size"}, "pooler_output": {0: "batch_size"}}
