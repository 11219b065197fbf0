"""The gate: an exported student answers as the one it came from, or there is no bundle.

Two checks. Tensors: every graph against torch on golden pictures and texts, in different batch sizes and lengths.
Tokens: whole captions and answers, greedy and by beam search, from picture and words to token ids, since small
differences of tensors add up over a text and a wrong preprocessing changes no graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vlkd_export.golden import TEXTS, GoldenPicture
from vlkd_export.torch_reference import TorchReference
from vlkd_hub.errors import ParityError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.decoder import CachedDecoder

__all__ = ["TensorReport", "TokenReport", "check_tensors", "check_tokens"]

BATCH = 16
BEAMS = 3


@dataclass(frozen=True, kw_only=True)
class TensorReport:
    """How far one graph is from torch."""

    graph: str
    max_abs: float
    """Largest absolute difference of any value."""
    scaled: float
    """Largest difference divided by the largest value of its tensor, or by 1 where that is smaller: what is limited."""
    cosine: float
    """Smallest cosine of any row with torch's."""
    cases: int


@dataclass(frozen=True, kw_only=True)
class TokenReport:
    """How many texts of one task are the same, token by token (all, or the gate would have failed)."""

    task: str
    num_beams: int
    texts: int
    tokens: int
    smallest_margin: float
    """Smallest gap between torch's two largest logits at any step of these texts: how near the closest call was."""


def check_tensors(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture], atol: float
) -> list[TensorReport]:
    """Compare every graph of ``student`` with torch.

    Args:
        reference: the student in torch.
        student: the exported one.
        pictures: at least one.
        atol: largest difference allowed, times the largest value of the tensor where that is above 1. Unit vectors so
            have an absolute limit; states that a pseudo-inverse has blown up to hundreds get float32's own error.

    Raises:
        ParityError: a graph is further away; the message names it, the output and the case.
    """
    graphs = {"image_encoder": _image_pairs, "text_encoder": _text_pairs}
    if student.manifest.generation is not None:
        graphs |= {"decoder": _decoder_pairs}
    reports = []
    with torch.no_grad():
        for graph, pairs_of in graphs.items():
            report = TensorReport(graph=graph, max_abs=0.0, scaled=0.0, cosine=1.0, cases=0)
            for case, expected, found in pairs_of(reference, student, pictures):
                report = _further(report, case, expected, found, atol)
            reports.append(report)
    return reports


Pair = tuple[str, torch.Tensor, NDArray[np.float32]]


def _image_pairs(reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]) -> Iterator[Pair]:
    for some in (pictures[:1], pictures[1:4] or pictures, pictures[:BATCH]):
        pixels = reference.pixels(some)
        names = ("image_embeds", "visual_states")
        for name, expected, found in zip(
            names, reference.model.encode_image(pixels), student.encode_image(pixels.numpy()), strict=True
        ):
            yield f"{name} of {len(some)} pictures", expected, found
    # From the picture itself: a wrong preprocessing changes no graph.
    whole = torch.cat([reference.model.encode_image(reference.pixels([picture]))[0] for picture in pictures])
    yield "image_embeds from picture to vector", whole, student.embed_images([picture.image for picture in pictures])


def _text_pairs(reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]) -> Iterator[Pair]:
    captions = [caption for picture in pictures for caption in picture.captions][:BATCH]
    for some in (list(TEXTS[:1]), list(TEXTS), captions):
        if some:
            input_ids, mask = reference.texts(some)
            expected, states = reference.model.encode_text(input_ids, mask)
            found, found_states = student.encode_text(input_ids.numpy(), mask.numpy())
            shape = f"{len(some)} texts of up to {input_ids.shape[1]} tokens"
            yield f"text_embeds of {shape}", expected, found
            # What stands behind the end of a text is masked out wherever it is used.
            seen = mask.bool()
            yield f"text_states of {shape}", states[seen], found_states[seen.numpy()]
            yield f"text_embeds from text to vector, {shape}", expected, student.embed_texts(some)


def _decoder_pairs(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> Iterator[Pair]:
    """Logits over a text read token by token with the cache, against torch's forward pass without one."""
    task = next(iter(student.manifest.tasks))
    assert student.manifest.generation is not None
    spec = student.manifest.generation
    for some, length in ((pictures[:1], 1), (pictures[:1], 12), (pictures[:5], 9)):
        ids = np.random.RandomState(length).randint(0, spec.vocab_size, (len(some), length))
        ids[:, 0] = spec.decoder_start_token_id
        input_ids, mask = reference.prompts(task, some)
        pixels = reference.pixels(some)
        context: Any = reference.model.encode_context(input_ids, mask, pixels).last_hidden_state
        seen = mask.new_ones(context.shape[0], context.shape[1] - mask.shape[1])
        decoder = CachedDecoder(
            student.sessions["cross_attention"],
            student.sessions["decoder"],
            spec,
            context.numpy(),
            torch.cat([seen, mask], dim=1).numpy(),
        )
        expected = reference.logits(task, some, torch.from_numpy(ids))
        for step in range(length):
            yield f"logits of {len(some)} texts at step {step}", expected[:, step], decoder.step(ids[:, step])


def _further(
    report: TensorReport, case: str, expected: torch.Tensor, found: NDArray[np.float32], atol: float
) -> TensorReport:
    """Take one more case into the report of its graph."""
    difference, cosine = _compare(expected, found)
    scaled = difference / max(1.0, float(expected.abs().max()))
    if not scaled <= atol:
        raise ParityError(
            f"The graph {report.graph} differs from torch: {case}, largest difference {difference:.3g}, relative to "
            f"the largest value {scaled:.3g} (allowed {atol:.3g}), smallest cosine {cosine:.6f}. No bundle was written."
        )
    return TensorReport(
        graph=report.graph,
        max_abs=max(report.max_abs, difference),
        scaled=max(report.scaled, scaled),
        cosine=min(report.cosine, cosine),
        cases=report.cases + 1,
    )


def _compare(expected: torch.Tensor, found: NDArray[np.float32]) -> tuple[float, float]:
    """Largest absolute difference and smallest cosine of two stacks of vectors; nan if anything is not a number."""
    wanted = expected.numpy()
    if wanted.shape != found.shape:
        return float("inf"), -1.0
    rows, others = (array.reshape(-1, wanted.shape[-1]).astype(np.float64) for array in (wanted, found))
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    cosines = (rows * others).sum(axis=1) / np.maximum(norms, 1e-30)
    return float(np.abs(rows - others).max()), float(cosines.min())


def check_tokens(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> tuple[list[TokenReport], dict[str, list[list[int]]]]:
    """Compare whole texts of every task, greedy on all pictures and by beam search on the first few.

    Args:
        reference: the student in torch.
        student: the exported one; it reads the pictures and words with its own processors.
        pictures: those without a question sit out the tasks that ask one.

    Returns:
        One report for each task and kind of search, and the greedy tokens: task -> one list for each picture that
        took part.

    Raises:
        ParityError: a text differs; the message names the picture, the step, both tokens and their logits' margin.
    """
    reports, greedy = [], {}
    for task, settings in student.manifest.tasks.items():
        asks = "{question}" in settings["prompt"]
        taking_part = [picture for picture in pictures if picture.question or not asks]
        for num_beams, some in ((1, taking_part), (BEAMS, taking_part[:BATCH])):
            if not some:
                continue
            rows, margin = _same_tokens(reference, student, task, some, num_beams)
            if num_beams == 1:
                greedy[task] = rows
            count = sum(len(row) for row in rows)
            reports.append(
                TokenReport(task=task, num_beams=num_beams, texts=len(rows), tokens=count, smallest_margin=margin)
            )
    return reports, greedy


def _same_tokens(
    reference: TorchReference, student: OnnxStudent, task: str, pictures: Sequence[GoldenPicture], num_beams: int
) -> tuple[list[list[int]], float]:
    settings = student.settings(task, num_beams=num_beams, do_sample=False)
    rows, closest = [], float("inf")
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        expected, margin = reference.write(task, some, num_beams)
        found = student.write_tokens(task, [p.image for p in some], [p.question for p in some], settings)
        for picture, wanted, got in zip(some, expected, found, strict=True):
            if wanted != got:
                raise ParityError(_divergence(reference, student, task, picture, wanted, got, num_beams))
        rows += expected
        closest = min(closest, margin)
    return rows, closest


def _divergence(
    reference: TorchReference,
    student: OnnxStudent,
    task: str,
    picture: GoldenPicture,
    wanted: list[int],
    got: list[int],
    num_beams: int,
) -> str:
    """Say where two texts part, and by how little."""
    pairs = zip(wanted + [-1], got + [-1], strict=False)
    step = next(number for number, (one, other) in enumerate(pairs) if one != other)
    spec = student.manifest.generation
    assert spec is not None
    prefix = torch.tensor([[spec.decoder_start_token_id, *wanted[:step]]])
    logits = reference.logits(task, [picture], prefix)[0, -1]
    sides = []
    for name, row in (("torch", wanted), ("ONNX", got)):
        if step < len(row):
            word = student.text_processor.tokenizer.id_to_token(row[step])
            sides.append(f"{name} {row[step]} ({word!r}, torch's logit {float(logits[row[step]]):.6f})")
        else:
            sides.append(f"{name} has ended")
    margin = ""
    if step < min(len(wanted), len(got)):
        margin = f"; margin {float(logits[wanted[step]] - logits[got[step]]):.3g}"
    return (
        f"The task {task!r} writes another text for {picture.name} (num_beams={num_beams}): the first different "
        f"token is at step {step}: {sides[0]}, {sides[1]}{margin}. No bundle was written."
    )
