"""The gate between graphs and bundle: compare with torch, and write down what torch answered."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlkd_export.certificate import graph_opsets, write_certificate
from vlkd_export.golden import GoldenPicture
from vlkd_export.parity import check_tensors
from vlkd_export.token_parity import check_tokens
from vlkd_export.torch_answers import torch_answers
from vlkd_export.torch_reference import TorchReference
from vlkd_hub.runtime import OnnxStudent

__all__ = ["pass_gate"]


def pass_gate(
    reference: TorchReference,
    student: OnnxStudent,
    pictures: dict[str, list[GoldenPicture]],
    bundle: Path,
    atol: float,
) -> dict[str, Any]:
    """Compare, write the certificate into ``bundle``, and return what goes into ``manifest.parity``.

    Args:
        reference: the model in torch.
        student: the bundle as it would be shipped.
        pictures: ``"drawn"`` and, where a data set was given, ``"data"``.
        bundle: the folder.
        atol: see :func:`vlkd_export.parity.check_tensors`.

    Raises:
        ParityError: a tensor or a text differs.
    """
    every = [picture for some in reversed(pictures.values()) for picture in some]
    tensors = check_tensors(reference, student, every, atol)
    reports: dict[str, Any] = {}
    tokens = {}
    for name, some in pictures.items():
        found, tokens[name] = check_tokens(reference, student, some)
        reports[name] = [asdict(report) for report in found]
    prompts = {task: item["prompt"] for task, item in student.manifest.tasks.items()}
    answers = torch_answers(
        reference,
        prompts,
        pictures,
        tokens,
        with_scores="model" in student.sessions,
        with_matching="image_tokens" in student.sessions,
    )
    write_certificate(bundle, answers, pictures, graph_opsets(bundle))
    return {
        "atol": atol,
        "pictures": {name: len(some) for name, some in pictures.items()},
        "tensors": [asdict(report) for report in tensors],
        "tokens": reports,
    }
