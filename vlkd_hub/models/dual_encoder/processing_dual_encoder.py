"""Pictures and texts of the dual encoder: one image processor, one tokenizer, as CLIP has them."""

from __future__ import annotations

from typing import Any

from transformers import ProcessorMixin

__all__ = ["DualEncoderProcessor"]


class DualEncoderProcessor(ProcessorMixin):
    """Pairs an image processor (Pillow backend) with a tokenizer; ``processor(images=..., text=...)``."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)
