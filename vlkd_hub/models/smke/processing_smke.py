"""Pictures and texts of S-SMKE: one image processor, one tokenizer, as CLIP has them."""

from __future__ import annotations

from typing import Any

from transformers import AutoImageProcessor, ProcessorMixin

from .compatibility import image_backend

__all__ = ["SmkeProcessor"]


class SmkeProcessor(ProcessorMixin):
    """Pairs an image processor (Pillow backend) with a tokenizer; ``processor(images=..., text=...)``."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> SmkeProcessor:
        """Load as every processor does, with Pillow's resize unless ``backend`` names another.

        transformers picks the torchvision image processor wherever torchvision is installed, whatever class was
        saved; its resize differs from the one that the weights were trained with.
        """
        backend = kwargs.pop("backend", "pil")
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        kwargs.pop("config", None)
        processor.image_processor = AutoImageProcessor.from_pretrained(
            pretrained_model_name_or_path, **image_backend(backend), **kwargs
        )
        return processor
