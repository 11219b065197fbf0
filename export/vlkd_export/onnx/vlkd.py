"""The VLKD student as graphs: two encoders, the context's keys and values, and the decoder with its cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from vlkd_export.onnx.cross_attention import cross_attention_spec
from vlkd_export.onnx.decoder import decoder_spec
from vlkd_export.onnx.graph import GraphSpec
from vlkd_export.onnx.model_exporter import ModelExporter
from vlkd_export.settings import EMBEDDING_TASKS, ExportSettings
from vlkd_hub.bundle import GenerationSpec
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_hub.runtime import ImageProcessor
from vlkd_hub.runtime.generation_settings import unsupported_options

__all__ = ["VlkdExporter"]

DEFAULT_POSITIONS = 512


class VlkdExporter(ModelExporter):
    """Exports :class:`~vlkd_hub.models.VlkdForConditionalGeneration`."""

    tasks: ClassVar[tuple[str, ...]] = (
        "image-text-to-text",
        "image-to-text",
        "visual-question-answering",
        "zero-shot-image-classification",
        "feature-extraction",
    )
    image_outputs: ClassVar[tuple[str, ...]] = ("image_embeds", "visual_states")
    text_outputs: ClassVar[tuple[str, ...]] = ("text_embeds", "text_states")

    @classmethod
    def load(cls, path: Path) -> VlkdForConditionalGeneration:
        """The student in ``path``.

        Raises:
            InvalidInputError: it generates in a way that the runtime does not have.
        """
        model: VlkdForConditionalGeneration = VlkdForConditionalGeneration.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        refused = unsupported_options(model.generation_config.to_dict())
        if refused:
            raise InvalidInputError(
                f"generation_config.json sets {', '.join(refused)}, which the runtime does not do. Remove them, save "
                "the student and export again."
            )
        return model

    @property
    def towers(self) -> Any:
        """The student itself has both methods."""
        return self.model

    @property
    def logit_scale(self) -> float:
        """Of its dual encoder."""
        return float(self.model.vlkd.logit_scale.detach().exp())

    @property
    def max_length(self) -> int:
        """Of the text encoder."""
        return int(getattr(self.model.config.text_encoder, "max_position_embeddings", DEFAULT_POSITIONS))

    @property
    def _vision_tower(self) -> torch.nn.Module:
        tower: torch.nn.Module = self.model.vlkd.vision_tower
        return tower

    def prompts(self, task: str, tasks: dict[str, Any]) -> dict[str, Any]:
        """Captioning takes the prompts that ask nothing, answering those with a question."""
        if task in EMBEDDING_TASKS:
            return {}
        asks = {"image-to-text": (False,), "visual-question-answering": (True,)}.get(task, (False, True))
        return {name: item for name, item in tasks.items() if ("{question}" in item["prompt"]) in asks}

    def generation(self, task: str) -> GenerationSpec | None:
        """See :meth:`ModelExporter.generation`.

        Raises:
            InvalidInputError: the student names no token, or several, where the runtime needs one.
        """
        if task in EMBEDDING_TASKS:
            return None
        config, options = self.model.config.decoder, self.model.generation_config
        ends = options.eos_token_id if isinstance(options.eos_token_id, list) else [options.eos_token_id]
        if len(ends) != 1 or ends[0] is None or options.decoder_start_token_id is None or options.pad_token_id is None:
            raise InvalidInputError(
                f"generation_config.json must name one eos_token_id, a pad_token_id and a decoder_start_token_id; it "
                f"has {options.eos_token_id}, {options.pad_token_id} and {options.decoder_start_token_id}."
            )
        return GenerationSpec(
            decoder_start_token_id=options.decoder_start_token_id,
            eos_token_id=ends[0],
            pad_token_id=options.pad_token_id,
            forced_bos_token_id=options.forced_bos_token_id,
            num_layers=config.decoder_layers,
            num_heads=config.decoder_attention_heads,
            head_dim=config.d_model // config.decoder_attention_heads,
            vocab_size=config.vocab_size,
        )

    def graphs(
        self, settings: ExportSettings, task: str, processor: ImageProcessor
    ) -> dict[str, Callable[[], GraphSpec]]:
        """The decoder's two graphs keep their rows, context and past free even where the encoders are fixed."""
        graphs = super().graphs(settings, task, processor)
        if task not in EMBEDDING_TASKS:
            graphs["cross_attention"] = lambda: cross_attention_spec(self.model)
            graphs["decoder"] = lambda: decoder_spec(self.model)
        return graphs
