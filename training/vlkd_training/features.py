"""Fills the feature cache: backbone maps, the tower's tokens, sentence vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from vlkd_hub.models import DualEncoderModel
from vlkd_hub.models.smke import SmkeImageEncoder
from vlkd_hub.models.vlkd import VisionTower

from .cache import ArraySpec, FeatureCache, fingerprint, weights_fingerprint
from .checks import check_finite
from .encoders import tokenize

__all__ = [
    "RandomView",
    "cached_backbone_features",
    "cached_image_tokens",
    "cached_pooled_text",
    "cached_text_tokens",
    "cached_text_vectors",
    "iterate_pixels",
    "preprocessing_of",
    "progress",
]

_BATCH = 64
_PIXEL_FIELDS = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_convert_rgb",
)


def iterate_pixels(
    records: Sequence[Any], image_processor: Any, batch_size: int = _BATCH, augment: Any = None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield preprocessed pictures in order, decoding the next batch while the caller computes.

    Args:
        records: anything indexable whose items have ``load_image()``.
        image_processor: a Hugging Face image processor, Pillow backend.
        batch_size: pictures per batch.
        augment: called with each picture before preprocessing.

    Yields:
        The rows of the batch, and their pixels, shape ``(batch, 3, H, W)``.
    """

    def load(row: int) -> np.ndarray:
        image = records[row].load_image()
        if augment is not None:
            image = augment(image, row)
        return np.asarray(image_processor(image, return_tensors="np")["pixel_values"][0])

    slices = [slice(at, min(at + batch_size, len(records))) for at in range(0, len(records), batch_size)]
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(load, row) for row in range(slices[0].start, slices[0].stop)] if slices else []
        for number, at in enumerate(slices):
            batch = np.stack([job.result() for job in waiting])
            if number + 1 < len(slices):
                following = slices[number + 1]
                waiting = [pool.submit(load, row) for row in range(following.start, following.stop)]
            yield at, torch.from_numpy(batch)


class RandomView:
    """A random crop and flip of a picture: the augmented views that a frozen backbone is cached for.

    Args:
        view: 0 is the plain picture; another number is another draw, the same at every call.
        min_area: least area of a crop, as a part of the picture.
    """

    def __init__(self, view: int, min_area: float) -> None:
        self.view, self.min_area = view, min_area

    def __call__(self, image: Image.Image, row: int) -> Image.Image:
        if self.view == 0:
            return image
        rng = np.random.default_rng([self.view, row])
        area = rng.uniform(self.min_area, 1.0) * image.width * image.height
        ratio = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
        width = min(image.width, round((area * ratio) ** 0.5))
        height = min(image.height, round((area / ratio) ** 0.5))
        left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
        image = image.crop((left, top, left + width, top + height))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def cached_backbone_features(
    tower: VisionTower | SmkeImageEncoder,
    image_processor: Any,
    records: Any,
    root: Path,
    *,
    views: int = 1,
    min_area: float = 0.5,
    pooled: bool = False,
    bf16: bool = True,
    dtype: str = "float16",
) -> FeatureCache:
    """What the frozen backbone says of every picture; array ``features`` of shape (views, pictures, tokens, width).

    Args:
        tower: holds the backbone.
        image_processor: makes its pixels.
        records: the pictures.
        root: folder of the caches.
        views: the plain picture first, then random crops and flips of it.
        min_area: least area of a crop, as a part of the picture.
        pooled: keep only the mean token, when nothing but average pooling follows.
        bf16: compute under bf16 autocast.
        dtype: how the features are kept, ``"float16"`` or ``"int8"`` (half the size).

    Raises:
        DataError: the backbone gave NaN or infinity, or the disk is too small.
    """
    backbone = tower.backbone.eval().to(memory_format=torch.channels_last)
    size = tower.config.image_size
    with torch.inference_mode():
        probe = tower.backbone_features(torch.zeros(1, 3, size, size))
    shape = (views, len(records), 1 if pooled else probe.shape[1], probe.shape[2])
    key = {
        "kind": "backbone",
        "data": records.fingerprint,
        "weights": weights_fingerprint(backbone),
        "layers": tower.config.feature_layers,
        "preprocessing": fingerprint(preprocessing_of(image_processor)),
        "shape": shape,
        "min_area": min_area if views > 1 else None,
        "bf16": bf16,
    }
    key |= {} if dtype == "float16" else {"dtype": dtype}

    def fill(arrays: dict[str, Any]) -> None:
        with progress("image features", views * len(records)) as bar:
            for view in range(views):
                source = iterate_pixels(records, image_processor, augment=RandomView(view, min_area))
                for at, pixels in source:
                    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                        found = tower.backbone_features(pixels.contiguous(memory_format=torch.channels_last)).float()
                    found = found.mean(dim=1, keepdim=True) if pooled else found
                    check_finite(found.numpy(), "image features", at.start, dtype=dtype)
                    arrays["features"][view, at] = found.numpy()
                    bar.update(len(pixels))

    return FeatureCache.open_or_build(root, key, {"features": ArraySpec(shape, dtype, lead=2)}, fill)


def cached_image_tokens(
    tower: VisionTower,
    tokens_of: Callable[[torch.Tensor], torch.Tensor],
    backbone: FeatureCache,
    root: Path,
    *,
    dtype: str = "float16",
) -> FeatureCache:
    """V of section 3.2 for every picture, from cached backbone features.

    Array ``tokens`` has the shape (pictures, 1 + n, d1), or (views, pictures, 1 + n, d1) when the backbone was cached
    for several views.

    Args:
        tower: the frozen tower, for its identity.
        tokens_of: maps backbone features (batch, tokens, width) to normalised tokens.
        backbone: cache of :func:`cached_backbone_features`.
        root: folder of the caches.
        dtype: how the tokens are kept, ``"float16"`` or ``"int8"``.
    """
    views, pictures = backbone["features"].shape[:2]
    with torch.inference_mode():
        probe = tokens_of(torch.from_numpy(np.array(backbone["features"][0][:1])).float())
    lead = 1 if views == 1 else 2
    shape = (pictures, *probe.shape[1:]) if views == 1 else (views, pictures, *probe.shape[1:])
    key = {"kind": "tokens", "backbone": backbone.folder.name, "weights": weights_fingerprint(tower), "shape": shape}
    key |= {} if dtype == "float16" else {"dtype": dtype}

    def fill(arrays: dict[str, Any]) -> None:
        with progress("image tokens", views * pictures) as bar:
            for view in range(views):
                features = backbone["features"][view]
                for start in range(0, pictures, _BATCH):
                    at = slice(start, min(start + _BATCH, pictures))
                    with torch.inference_mode():
                        found = tokens_of(torch.from_numpy(np.array(features[at])).float()).float().numpy()
                    check_finite(found, "image tokens", start, dtype=dtype)
                    arrays["tokens"][at if lead == 1 else (view, at)] = found
                    bar.update(at.stop - at.start)

    return FeatureCache.open_or_build(root, key, {"tokens": ArraySpec(shape, dtype, lead)}, fill)


def cached_text_vectors(
    module: nn.Module,
    tokenizer: Any,
    encode: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    texts: Sequence[str],
    dim: int,
    root: Path,
    *,
    kind: str,
) -> FeatureCache:
    """A vector for every text; array ``vectors`` of shape (texts, dim).

    Args:
        module: all that is frozen and has a part in the vectors, for its identity.
        tokenizer: makes ``input_ids`` and ``attention_mask``; what it makes of the texts is part of the cache's key.
        encode: maps these to vectors (batch, dim).
        texts: in the order of the rows.
        dim: width of a vector.
        root: folder of the caches.
        kind: what the vectors are, part of the cache's key.
    """
    key = {
        "kind": kind,
        "ids": fingerprint({"ids": tokenizer(list(texts), truncation=True)["input_ids"]}),
        "weights": weights_fingerprint(module),
        "dim": dim,
    }
    order = np.argsort([len(text) for text in texts], kind="stable")  # equal lengths together: less padding

    def fill(arrays: dict[str, np.ndarray]) -> None:
        with progress("sentence vectors", len(texts)) as bar:
            for start in range(0, len(order), 4 * _BATCH):
                rows = order[start : start + 4 * _BATCH]
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                    found = encode(tokenize(tokenizer, [texts[row] for row in rows])).float().numpy()
                check_finite(found, "sentence vectors", rows)
                arrays["vectors"][rows] = found
                bar.update(len(rows))

    return FeatureCache.open_or_build(root, key, {"vectors": ArraySpec((len(texts), dim), "float32")}, fill)


def cached_pooled_text(model: DualEncoderModel, tokenizer: Any, texts: Sequence[str], root: Path) -> FeatureCache:
    """What a dual encoder's frozen text tower says of every text, before its projection; array ``vectors``."""

    def encode(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return model.pool_text(**inputs)

    width, kind = model.config.text_config.hidden_size, f"text_pooled {model.config.text_pool}"
    return cached_text_vectors(model.text_model, tokenizer, encode, texts, width, root, kind=kind)


def cached_text_tokens(
    module: nn.Module, tokenizer: Any, texts: Sequence[str], max_length: int, root: Path
) -> tuple[FeatureCache, list[int]]:
    """What a frozen text encoder says of every token, special ones included and padding left out.

    Args:
        module: the encoder.
        tokenizer: its tokenizer.
        texts: in the order of the rows.
        max_length: tokens per text, special ones included.
        root: folder of the caches.

    Returns:
        Array ``tokens`` of shape (tokens of all texts, width), and how many tokens each text has.
    """
    ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    lengths = [len(row) for row in ids]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    width = int(module.config.hidden_size)  # type: ignore[union-attr, arg-type]
    key = {"kind": "text_tokens", "ids": fingerprint({"ids": ids}), "weights": weights_fingerprint(module)}
    order = np.argsort(lengths, kind="stable")  # equal lengths together: less padding

    def fill(arrays: dict[str, np.ndarray]) -> None:
        module.eval()
        with progress("text tokens", len(texts)) as bar:
            for start in range(0, len(order), 4 * _BATCH):
                rows = order[start : start + 4 * _BATCH]
                batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                    found = module(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
                states = found.last_hidden_state.float().numpy()
                check_finite(states, "text tokens", rows, dtype="float16")
                for row, hidden in zip(rows, states, strict=True):
                    arrays["tokens"][starts[row] : starts[row + 1]] = hidden[: lengths[row]]
                bar.update(len(rows))

    spec = ArraySpec((int(starts[-1]), width), "float16")
    return FeatureCache.open_or_build(root, key, {"tokens": spec}, fill), lengths


def preprocessing_of(image_processor: Any) -> dict[str, Any]:
    """What changes the pixels, and nothing of how or from where the processor was loaded."""
    fields = image_processor.to_dict()
    for name in ("size", "crop_size"):
        fields[name] = {side: int(length) for side, length in fields[name].items() if length}
    return {name: fields[name] for name in _PIXEL_FIELDS}


def progress(what: str, total: int) -> Any:
    """A bar for the filling of a cache."""
    return tqdm(total=total, desc=what, unit="it", leave=False, mininterval=0.5)
