"""What the student answered in torch, kept in the bundle so that anyone can ask the bundle again without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_export.golden import TEXTS, GoldenPicture, drawn_pictures, picture_digest
from vlkd_hub.errors import BundleError, ParityError
from vlkd_hub.runtime import OnnxStudent

__all__ = ["CERTIFICATE_NAME", "check_certificate", "read_certificate", "write_certificate"]

CERTIFICATE_NAME = "golden/expected.json"
DECIMALS = 6
"""Of the stored embeddings; their rounding is far below any tolerance."""


def write_certificate(
    directory: Path,
    pictures: Mapping[str, Sequence[GoldenPicture]],
    image_embeds: Mapping[str, NDArray[np.float32]],
    text_embeds: NDArray[np.float32],
    tokens: Mapping[str, Mapping[str, Sequence[Sequence[int]]]],
) -> None:
    """Write ``golden/expected.json``.

    Args:
        directory: the bundle.
        pictures: ``"drawn"`` and, where one was given, ``"data"`` -> its pictures.
        image_embeds: the same keys -> torch's embeddings, ``(pictures, dim)``.
        text_embeds: torch's embeddings of :data:`vlkd_export.golden.TEXTS`, ``(texts, dim)``.
        tokens: the same keys as ``pictures`` -> task -> torch's greedy tokens of the pictures that took part.
    """
    sets = {
        name: {
            "digest": picture_digest(some),
            "pictures": [picture.name for picture in some],
            "image_embeds": _rounded(image_embeds[name]),
            "tokens": tokens[name],
        }
        for name, some in pictures.items()
    }
    path = directory / CERTIFICATE_NAME
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"text_embeds": _rounded(text_embeds), "sets": sets}) + "\n", encoding="utf-8")


def read_certificate(directory: Path) -> dict[str, Any]:
    """Read ``golden/expected.json``.

    Raises:
        BundleError: it is absent or malformed.
    """
    path = directory / CERTIFICATE_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        sets = data["sets"]
        if not {"text_embeds", "sets"} <= data.keys() or "drawn" not in sets:
            raise ValueError("text_embeds or the drawn set is missing")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} cannot be read ({error}). Export the student again.") from error
    return dict(data)


def check_certificate(
    student: OnnxStudent, certificate: dict[str, Any], data: Sequence[GoldenPicture] | None = None
) -> dict[str, Any]:
    """Ask the bundle again and compare with what torch answered when it was exported.

    Args:
        student: the bundle.
        certificate: see :func:`read_certificate`.
        data: the pictures of the data set that was given to the export, to compare those too.

    Returns:
        ``max_abs`` of the embeddings, and the number of ``pictures`` and ``texts`` that were compared.

    Raises:
        ParityError: an embedding or a text differs, or the pictures are not the ones of the export.
    """
    atol = float(student.manifest.parity["atol"])
    sets = {"drawn": drawn_pictures()} | ({"data": list(data)} if data is not None else {})
    worst = _far(certificate["text_embeds"], student.embed_texts(list(TEXTS)), atol, "texts")
    texts = 0
    for name, pictures in sets.items():
        expected = certificate["sets"].get(name)
        if expected is None or expected["digest"] != picture_digest(pictures):
            raise ParityError(
                f"The {name} pictures are not those that the bundle was exported with, so there is nothing to compare "
                "with. Give the same data set and split as at the export."
            )
        embeds = student.embed_images([picture.image for picture in pictures])
        worst = max(worst, _far(expected["image_embeds"], embeds, atol, f"{name} pictures"))
        for task, rows in expected["tokens"].items():
            texts += _check_texts(student, task, pictures, rows)
    return {"max_abs": worst, "pictures": sum(len(some) for some in sets.values()), "texts": texts}


def _check_texts(student: OnnxStudent, task: str, pictures: Sequence[GoldenPicture], rows: list[list[int]]) -> int:
    asks = "{question}" in student.text_processor.task(task)["prompt"]
    some = [picture for picture in pictures if picture.question or not asks]
    settings = student.settings(task, num_beams=1, do_sample=False)
    found = student.write_tokens(task, [p.image for p in some], [p.question for p in some], settings)
    for picture, wanted, got in zip(some, rows, found, strict=True):
        if wanted != got:
            words, others = student.text_processor.decode([wanted, got])
            raise ParityError(
                f"The task {task!r} writes another text for {picture.name} than at the export: {others!r}, "
                f"expected {words!r}."
            )
    return len(some)


def _far(expected: list[list[float]], found: NDArray[np.float32], atol: float, what: str) -> float:
    wanted = np.array(expected, dtype=np.float64)
    difference = float(np.abs(wanted - found).max()) if wanted.shape == found.shape else float("inf")
    if not difference <= atol + 10.0**-DECIMALS:
        raise ParityError(
            f"The embeddings of the {what} differ from those at the export by up to {difference:.3g}; allowed is "
            f"{atol:.3g}."
        )
    return difference


def _rounded(vectors: NDArray[np.float32]) -> list[list[float]]:
    return [[round(float(value), DECIMALS) for value in row] for row in vectors]
