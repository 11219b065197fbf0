"""Run a student (or its teacher) in torch: pictures and texts in, vectors and sentences out.

``vlkd_hub.runtime.OnnxStudent`` has the same methods and needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, PreTrainedModel

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.hub.folders import student_folder
from vlkd_hub.hub.loading import load_whole
from vlkd_hub.models import SmkeModel, VlkdForConditionalGeneration
from vlkd_hub.picture_cache import PictureCache
from vlkd_hub.runtime.image_processing import ImageProcessor
from vlkd_hub.runtime.matching import WordMatch, match_words, words_of

__all__ = ["TorchStudent", "load_processor"]


def load_processor(path: str | Path) -> Any:
    """Load a processor with its Pillow image backend.

    A saved processor comes back with torchvision's resize unless asked otherwise, and that resize differs from
    Pillow's enough to cost recall; there is one preprocessing here, Pillow's.
    """
    processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
    processor.image_processor = AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
    return processor


class TorchStudent:
    """One saved model with its processor, for inference on one device.

    Args:
        model: a :class:`VlkdForConditionalGeneration`, or any model with CLIP's ``get_image_features`` and
            ``get_text_features`` (an aligned teacher, a CLIP), which then only embeds.
        processor: the model's processor.
        device: where to run.
        batch_size: pictures or texts per forward pass.
        picture_cache_bytes: room for what the tower said of recent pictures; 0 encodes every picture every time.
            The weights must not change while it is in use.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        device: str = "cpu",
        batch_size: int = 64,
        picture_cache_bytes: int = 256 * 2**20,
    ) -> None:
        self.model = model.to(device).eval()
        self.processor = processor
        self.device = device
        self.batch_size = batch_size
        self._encoded = PictureCache(picture_cache_bytes)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str = "cpu",
        batch_size: int = 64,
        *,
        revision: str | None = None,
        **options: Any,
    ) -> TorchStudent:
        """Load a VLKD student, an aligned teacher or a CLIP. Code that lies beside the weights is not run.

        Args:
            path: a folder, or ``owner/name`` or ``owner/name@revision`` on the Hub.
            device: where to run.
            batch_size: pictures or texts per forward pass.
            revision: branch, tag or commit on the Hub.
            **options: go to the class.

        Raises:
            HubError: the repository cannot be fetched.
            WeightsError: there are no weights, not all of them, or not in well-formed safetensors.
        """
        folder = student_folder(path, revision)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        loader = VlkdForConditionalGeneration if config.model_type == "vlkd" else AutoModel
        return cls(load_whole(loader, folder), load_processor(folder), device, batch_size, **options)

    @property
    def num_parameters(self) -> int:
        """Parameters, shared tables counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def _dual_encoder(self) -> Any:
        return self.model.vlkd if isinstance(self.model, VlkdForConditionalGeneration) else self.model

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return unit vectors, shape ``(len(images), dim)``, float32."""
        rows = [self._image_vectors(images[at]) for at in self._batches(len(images))]
        return np.concatenate(rows) if rows else np.zeros((0, self._dim), np.float32)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape ``(len(texts), dim)``, float32."""
        rows = [
            _unit(self._dual_encoder.get_text_features(**self._tokens(list(texts[at]))).pooler_output)
            for at in self._batches(len(texts))
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self._dim), np.float32)

    @property
    def matches_words(self) -> bool:
        """Whether :meth:`match_words` can be asked."""
        return isinstance(self.model, SmkeModel)

    @torch.inference_mode()
    def match_words(self, image: Image.Image, text: str) -> WordMatch:
        """Find the words of a text in a picture: see :class:`vlkd_hub.runtime.matching.WordMatch`.

        Raises:
            InvalidInputError: the model does not compare words with patches.
        """
        if not self.matches_words:
            raise InvalidInputError(
                f"{type(self.model).__name__} was not made to compare words with patches; only an S-SMKE student is."
            )
        encoding = self.processor.tokenizer(text, truncation=True)
        tokens = self.model.get_text_tokens(**self._tokens([text]))[0].cpu().numpy()
        pixels = self._pixels([image])
        patches = self.model.get_image_tokens(pixels)[0].cpu().numpy()
        attends = self.model.config.shared == "transformer"
        attention = self.model.get_image_attention(pixels)[0].float().cpu().numpy() if attends else None
        region = ImageProcessor.from_config(self.processor.image_processor.to_dict()).region(image.size)
        return match_words(words_of(text, encoding.encodings[0]), tokens, patches, attention, region)

    def caption(
        self, images: Sequence[Image.Image], *, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[str]:
        """Return one sentence a picture.

        Raises:
            InvalidInputError: the model cannot generate.
        """
        return self._write("caption", images, None, num_beams, max_new_tokens)

    def answer(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """Return one answer for each picture and question.

        Raises:
            InvalidInputError: the model cannot generate, the two lists differ in length, or a question is empty.
        """
        if len(images) != len(questions):
            raise InvalidInputError(
                f"Give one question a picture: got {len(images)} pictures and {len(questions)} questions."
            )
        return self._write("vqa", images, questions, num_beams, max_new_tokens)

    @torch.inference_mode()
    def _write(
        self,
        task: str,
        images: Sequence[Image.Image],
        questions: Sequence[str] | None,
        num_beams: int | None,
        max_new_tokens: int | None,
    ) -> list[str]:
        if not isinstance(self.model, VlkdForConditionalGeneration):
            raise InvalidInputError(
                f"{type(self.model).__name__} is a dual encoder: it searches but cannot write. "
                "Captions and answers need a distilled student (`vlkd distill`)."
            )
        wanted = {"num_beams": num_beams, "max_new_tokens": max_new_tokens}
        options = self.processor.generation_kwargs(task) | {k: v for k, v in wanted.items() if v is not None}
        texts: list[str] = []
        for at in self._batches(len(images)):
            asked = [None] * len(images[at]) if questions is None else questions[at]
            try:
                prompts = [self.processor.build_prompt(task, question) for question in asked]
            except ValueError as error:
                raise InvalidInputError(str(error)) from error
            visual = self._visual_tokens(images[at])
            ids = self.model.generate(**self._tokens(prompts), image_tokens=visual, **options)
            texts += self.processor.post_process_image_text_to_text(ids)
        return texts

    def _image_vectors(self, images: Sequence[Image.Image]) -> np.ndarray:
        if isinstance(self.model, VlkdForConditionalGeneration):
            return _unit(self._visual_tokens(images)[:, 0])
        return _unit(self._dual_encoder.get_image_features(pixel_values=self._pixels(images)).pooler_output)

    def _visual_tokens(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """V for each picture; a picture seen before, in this batch or lately, is not encoded again."""
        return self._encoded.encode(images, lambda new: self.model.vlkd.image_tokens(self._pixels(new)))

    @property
    def _dim(self) -> int:
        return int(self.model.config.projection_dim)

    def _batches(self, count: int) -> list[slice]:
        return [slice(start, start + self.batch_size) for start in range(0, count, self.batch_size)]

    def _pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return self.processor.image_processor(list(images), return_tensors="pt")["pixel_values"].to(self.device)

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        batch = self.processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return {key: batch[key].to(self.device) for key in ("input_ids", "attention_mask")}


def _unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
