"""How long texts of a fixed number of tokens take, in torch and in this runtime, at several batch sizes.

Two measures. Context ready: pictures and prompt are encoded already, on both sides, so that the decoder alone is
compared. End to end: from decoded pictures to tokens. Every text has exactly the same number of tokens, since the end
token is held back on both sides.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from vlkd_export.caption_latency import WARM_UP, spread
from vlkd_hub.errors import InvalidInputError, ParityError
from vlkd_hub.inference import TorchStudent
from vlkd_hub.runtime import OnnxStudent

__all__ = ["measure_writing"]

TASK = "caption"
Tokens = list[list[int]]
Writer = Callable[[], Tokens]


def measure_writing(
    in_torch: TorchStudent,
    in_onnx: OnnxStudent,
    pictures: Sequence[Image.Image],
    *,
    batch: int,
    new_tokens: int,
    runs: int,
    picture_encoded: bool,
) -> dict[str, Any]:
    """Medians of ``runs`` in turns, greedy, after checking that both write the same tokens.

    Args:
        in_torch: the student, float32, without a cache of encoded pictures.
        in_onnx: its bundle.
        pictures: taken in groups of ``batch``, round and round.
        batch: pictures of one run.
        new_tokens: tokens of every text.
        runs: timed runs of each, at least 1.
        picture_encoded: start from the context instead of the picture.

    Returns:
        ``torch_ms``, ``onnx_ms``, ``ratio`` (the median of the ratios of neighbouring runs is ``ratio_of_pairs``),
        ``spread_ms``, ``load_average`` before and after.

    Raises:
        ParityError: the tokens differ, so that the times cannot be compared.
        InvalidInputError: no picture, or no run.
    """
    if not pictures or runs < 1:
        raise InvalidInputError(f"Expected pictures and at least one run, got {len(pictures)} and {runs}.")
    make = _from_context if picture_encoded else _from_pictures
    groups = [
        [pictures[(start + place) % len(pictures)] for place in range(batch)] for start in range(0, 4 * batch, batch)
    ]
    pairs = [make(in_torch, in_onnx, group, new_tokens) for group in groups]
    for one, other in pairs:
        _check(one(), other(), new_tokens)
    before = _load()
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(-WARM_UP, runs):
        for writer, taken in zip(pairs[run % len(pairs)], times, strict=True):
            start = time.perf_counter()
            writer()
            if run >= 0:
                taken.append((time.perf_counter() - start) * 1e3)
    medians = [statistics.median(values) for values in times]
    return {
        "batch": batch,
        "new_tokens": new_tokens,
        "picture_encoded": picture_encoded,
        "runs": runs,
        "torch_ms": round(medians[0], 3),
        "onnx_ms": round(medians[1], 3),
        "ratio": round(medians[0] / medians[1], 2),
        "ratio_of_pairs": round(statistics.median(a / b for a, b in zip(*times, strict=True)), 2),
        "spread_ms": {"torch": spread(times[0]), "onnx": spread(times[1])},
        "load_average": {"before": before, "after": _load()},
    }


def _from_context(in_torch: TorchStudent, in_onnx: OnnxStudent, group: list[Any], new_tokens: int) -> list[Writer]:
    """Both sides read the context that torch made."""
    inputs = _inputs(in_torch, group)
    with torch.inference_mode():
        context = in_torch.model.encode_context(**inputs)
    mask = inputs["attention_mask"]
    states = context.last_hidden_state.numpy()
    seen = np.concatenate([np.ones((len(group), states.shape[1] - mask.shape[1]), np.int64), mask.numpy()], axis=1)
    settings = in_onnx.settings(TASK, **_options(new_tokens))
    texts = {"input_ids": inputs["input_ids"], "attention_mask": mask}
    return [
        lambda: _generate(in_torch, new_tokens, encoder_outputs=context, **texts),
        lambda: in_onnx.generate_from_states(states, seen, settings),
    ]


def _from_pictures(in_torch: TorchStudent, in_onnx: OnnxStudent, group: list[Any], new_tokens: int) -> list[Writer]:
    settings = in_onnx.settings(TASK, **_options(new_tokens))
    return [
        lambda: _generate(in_torch, new_tokens, **_inputs(in_torch, group)),
        lambda: in_onnx.write_tokens(TASK, group, [None] * len(group), settings),
    ]


def _inputs(in_torch: TorchStudent, group: list[Any]) -> dict[str, torch.Tensor]:
    processor = in_torch.processor
    prompts = [processor.build_prompt(TASK)] * len(group)
    batch = processor.tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
    pixels = processor.image_processor(group, return_tensors="pt")["pixel_values"]
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "pixel_values": pixels}


@torch.inference_mode()
def _generate(in_torch: TorchStudent, new_tokens: int, **inputs: Any) -> Tokens:
    options = in_torch.processor.generation_kwargs(TASK) | _options(new_tokens)
    written: Tokens = in_torch.model.generate(**inputs, **options)[:, 1:].tolist()
    return written


def _options(new_tokens: int) -> dict[str, Any]:
    return {"num_beams": 1, "do_sample": False, "min_new_tokens": new_tokens, "max_new_tokens": new_tokens}


def _check(expected: Tokens, found: Tokens, new_tokens: int) -> None:
    if expected != found:
        row = next(number for number, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b)
        raise ParityError(
            f"Torch writes the tokens {expected[row]} and ONNX {found[row]}, so their times cannot be compared. Is the "
            "bundle an export of this student? Try: vlkd verify."
        )
    if any(len(row) != new_tokens for row in found):
        raise ParityError(f"Expected {new_tokens} tokens of every text, got {sorted({len(row) for row in found})}.")


def _load() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []
