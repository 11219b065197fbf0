"""The second half of the gate: whole captions and answers, token by token, greedy and by beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlkd_export.answers import BEAM_PICTURES, BEAMS, Texts, taking_part
from vlkd_export.golden import GoldenPicture
from vlkd_export.torch_reference import TorchReference
from vlkd_hub.errors import ParityError
from vlkd_hub.runtime import OnnxStudent

__all__ = ["TokenReport", "check_tokens"]

BATCH = 16


@dataclass(frozen=True, kw_only=True)
class TokenReport:
    """How many texts of one task are the same, token by token (all, or the gate would have failed)."""

    task: str
    num_beams: int
    texts: int
    tokens: int
    smallest_margin: float
    """Smallest gap between torch's two largest logits at any step of these texts: how near the closest call was."""


def check_tokens(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> tuple[list[TokenReport], dict[int, Texts]]:
    """Compare whole texts of every task, greedy on all pictures and by beam search on the first few.

    Args:
        reference: the student in torch.
        student: the exported one; it reads the pictures and words with its own processors.
        pictures: those without a question sit out the tasks that ask one.

    Returns:
        One report for each task and kind of search, and torch's tokens: number of beams -> task -> one list for each
        picture that took part.

    Raises:
        ParityError: a text differs; the message names the picture, the step, both tokens and their logits' margin.
    """
    reports: list[TokenReport] = []
    texts: dict[int, Texts] = {1: {}, BEAMS: {}}
    for task, settings in student.manifest.tasks.items():
        for num_beams, some in ((1, pictures), (BEAMS, pictures[:BEAM_PICTURES])):
            asked = taking_part(settings["prompt"], some)
            rows, margin = _same_tokens(reference, student, task, asked, num_beams) if asked else ([], float("inf"))
            texts[num_beams][task] = rows
            if rows:
                count = sum(len(row) for row in rows)
                report = TokenReport(
                    task=task, num_beams=num_beams, texts=len(rows), tokens=count, smallest_margin=margin
                )
                reports.append(report)
    return reports, texts


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
