"""What the export asks of a model class: which tasks it has, which graphs they need, what it answers in torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch

from vlkd_export.onnx.any_size import tower_of_any_size
from vlkd_export.onnx.graph import GraphSpec
from vlkd_export.onnx.image_encoder import image_encoder_spec
from vlkd_export.onnx.monolith import monolith_spec
from vlkd_export.onnx.picture_encoder import picture_encoder_spec
from vlkd_export.onnx.text_encoder import text_encoder_spec
from vlkd_export.settings import AUTO, TASKS, ExportSettings
from vlkd_hub.bundle import GenerationSpec, MatchingSpec
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime import ImageProcessor

__all__ = ["ModelExporter"]


class ModelExporter(ABC):
    """One model class as graphs. A subclass is small: it names tasks and outputs, and adds graphs of its own.

    Args:
        model: in eval mode, float32.
    """

    tasks: ClassVar[tuple[str, ...]]
    """Those that the class has, the richest first."""
    image_outputs: ClassVar[tuple[str, ...]] = ("image_embeds",)
    text_outputs: ClassVar[tuple[str, ...]] = ("text_embeds",)

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Any:
        """The model in ``path``, float32."""

    @property
    @abstractmethod
    def towers(self) -> Any:
        """A module with ``encode_image(pixel_values)`` and ``encode_text(input_ids, attention_mask)``.

        Each returns a tuple of tensors, the unit vectors first, in the order of ``image_outputs`` and
        ``text_outputs``.
        """

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """1 / temperature of the scores."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Tokens that the text encoder has positions for."""

    @property
    def embedding_dim(self) -> int:
        """Numbers in a vector."""
        return int(self.model.config.projection_dim)

    def task(self, wanted: str) -> str:
        """The task to export for.

        Raises:
            InvalidInputError: the model class does not have it.
        """
        if wanted == AUTO:
            return self.tasks[0]
        if wanted not in self.tasks:
            raise InvalidInputError(
                f"{type(self.model).__name__} cannot do {wanted!r} ({TASKS[wanted]}). "
                f"It can do {', '.join(self.tasks)}."
            )
        return wanted

    def prompts(self, task: str, tasks: dict[str, Any]) -> dict[str, Any]:
        """Those of the processor's ``tasks`` (prompt and search settings of each) that ``task`` writes."""
        return {}

    def generation(self, task: str) -> GenerationSpec | None:
        """What a caller of the decoder must know, or None for a task that only embeds."""
        return None

    def matching(self, size: tuple[int, int]) -> MatchingSpec:
        """What the graphs that match words with patches give, for pictures of ``size`` (height, width).

        Raises:
            InvalidInputError: the model class has none.
        """
        raise InvalidInputError(
            f"{type(self.model).__name__} was not made to compare words with patches; only SmkeModel is. Leave "
            "--match-words out."
        )

    def match_image(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Patches ``(B, N, D)`` and perhaps their attention ``(B, 1 + N, 1 + N)``, of a class that has them."""
        raise NotImplementedError(f"{type(self).__name__} has no patches to match.")

    def match_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Tokens ``(B, T, D)`` to compare with patches, of a class that has them."""
        raise NotImplementedError(f"{type(self).__name__} has no tokens to match.")

    def graphs(
        self, settings: ExportSettings, task: str, processor: ImageProcessor
    ) -> dict[str, Callable[[], GraphSpec]]:
        """Name -> maker of each graph that ``task`` and the settings ask for."""
        size = processor.output_size
        fixed = None if settings.dynamic_axes else self.fixed_length(settings)
        graphs: dict[str, Callable[[], GraphSpec]] = {
            "image_encoder": lambda: image_encoder_spec(
                self.towers, *size, self.image_outputs, fixed=bool(fixed), any_size=settings.dynamic_image_size
            ),
            "text_encoder": lambda: text_encoder_spec(
                self.towers, self.text_outputs, max_length=self.max_length, fixed_length=fixed
            ),
        }
        if settings.has_monolith(task):
            graphs["model"] = lambda: monolith_spec(self.towers, self.logit_scale, size, self.max_length, fixed)
        if settings.preprocessing_in_graph:
            graphs["picture_encoder"] = lambda: picture_encoder_spec(
                self.towers, processor, self.image_outputs, fixed=bool(fixed)
            )
        return graphs

    def fixed_length(self, settings: ExportSettings) -> int:
        """Tokens of a text where the axes are fixed."""
        return min(settings.sequence_length, self.max_length)

    def tracing(self, settings: ExportSettings) -> AbstractContextManager[None]:
        """Context in which the graphs are traced.

        Raises:
            InvalidInputError: pictures of any size were asked for and the image tower takes one.
        """
        return tower_of_any_size(self._vision_tower) if settings.dynamic_image_size else nullcontext()

    @property
    def _vision_tower(self) -> torch.nn.Module | None:
        """The tower of this package inside the model, where it has one."""
        return None
