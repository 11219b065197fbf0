"""What runs a bundle: onnxruntime, tokenizers, numpy and Pillow. Nothing here imports torch or transformers."""

from __future__ import annotations

from vlkd_hub.runtime.generation_settings import GenerationSettings
from vlkd_hub.runtime.image_processing import ImageProcessor, load_image
from vlkd_hub.runtime.student import OnnxStudent
from vlkd_hub.runtime.text import TextProcessor

__all__ = ["GenerationSettings", "ImageProcessor", "OnnxStudent", "TextProcessor", "load_image"]
