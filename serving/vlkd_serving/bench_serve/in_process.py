"""The same work without a server: the loop that the server is compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from vlkd_serving.images import PictureLimits, decode_picture
from vlkd_serving.parts import OnnxParts

__all__ = ["bare_session", "caption_loop", "embedding_loop", "one_by_one"]

_LIMITS = PictureLimits()


def embedding_loop(parts: OnnxParts, pictures: Sequence[bytes], batch: int, workers: int) -> float:
    """Seconds to embed all pictures: decoded and preprocessed on ``workers`` threads while batches are encoded."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        pixels = pool.map(lambda content: parts.preprocess(decode_picture(content, _LIMITS)), pictures)
        while group := list(islice(pixels, batch)):
            parts.encode_pictures(group)
    return time.perf_counter() - begin


def caption_loop(parts: OnnxParts, pictures: Sequence[bytes], batch: int, workers: int) -> float:
    """Seconds to caption all pictures: as :func:`embedding_loop`, then each batch is written to its end.

    Each text comes with its score, as in the server's answer.
    """
    begin = time.perf_counter()
    settings = parts.settings("caption", None, None)
    (prompt,) = parts.encode_texts([parts.tokenize(parts.build_prompt("caption", None))])
    with ThreadPoolExecutor(workers) as pool:
        pixels = pool.map(lambda content: parts.preprocess(decode_picture(content, _LIMITS)), pictures)
        while group := list(islice(pixels, batch)):
            contexts = [(each.states, prompt.states) for each in parts.encode_pictures(group)]
            for step in parts.write(contexts, settings, ()):
                for written in step.finished.values():
                    parts.detokenize(written.tokens)
    return time.perf_counter() - begin


def bare_session(parts: OnnxParts, count: int, batch: int) -> float:
    """Seconds of the image encoder alone on ``count`` pictures that are arrays already, in batches."""
    shape = (batch, *parts.preprocess(Image.new("RGB", (8, 8))).shape)
    pixels: Any = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    begin = time.perf_counter()
    for _ in range(max(1, count // batch)):
        parts.student.encode_image(pixels)
    return (time.perf_counter() - begin) * count / (max(1, count // batch) * batch)


def one_by_one(parts: OnnxParts, pictures: Sequence[bytes]) -> list[float]:
    """Seconds for each picture alone: decode, preprocess, encode."""
    seconds = []
    for content in pictures:
        begin = time.perf_counter()
        parts.encode_pictures([parts.preprocess(decode_picture(content, _LIMITS))])
        seconds.append(time.perf_counter() - begin)
    return seconds
