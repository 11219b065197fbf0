"""What the student answered in torch, kept in the bundle so that anyone can ask the bundle again without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_export.answers import Answers, onnx_answers
from vlkd_export.golden import GoldenPicture, drawn_pictures, picture_digest
from vlkd_hub._optional import require
from vlkd_hub.errors import BundleError, ParityError, VlkdError
from vlkd_hub.runtime import OnnxStudent

__all__ = [
    "CERTIFICATE_NAME",
    "check_certificate",
    "check_opsets",
    "graph_opsets",
    "read_certificate",
    "write_certificate",
]

CERTIFICATE_NAME = "golden/expected.json"
DECIMALS = 6
"""Of the stored numbers; their rounding is far below any tolerance."""
MIN_PICTURE_COSINE = 0.9999
"""Of a picture's vector by the graph that resizes, with its vector by the processor."""


def write_certificate(
    directory: Path, answers: Answers, pictures: Mapping[str, Sequence[GoldenPicture]], opsets: Mapping[str, int]
) -> None:
    """Write ``golden/expected.json``.

    Args:
        directory: the bundle.
        answers: of the model in torch; of a changed bundle (quantized, say) its own.
        pictures: the sets that were asked.
        opsets: graph -> version of ONNX's operators, see :func:`graph_opsets`.
    """
    sets = {
        name: {
            "digest": picture_digest(some),
            "pictures": [picture.name for picture in some],
            "image_embeds": _rounded(answers.image_embeds[name]),
            "tokens": answers.greedy[name],
            "beams": answers.beams[name],
        }
        for name, some in pictures.items()
    }
    written = {
        "opsets": dict(opsets),
        "vocabulary": answers.vocabulary,
        "text_ids": answers.text_ids,
        "text_embeds": _rounded(answers.text_embeds),
        "scores": None if answers.scores is None else _rounded(answers.scores),
        "sketches": {name: _rounded(np.array(rows)) for name, rows in answers.sketches.rows.items()},
        "scales": answers.sketches.scales,
        "sets": sets,
    }
    path = directory / CERTIFICATE_NAME
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(written) + "\n", encoding="utf-8")


def read_certificate(directory: Path) -> dict[str, Any]:
    """Read ``golden/expected.json``.

    Raises:
        BundleError: it is absent or malformed.
    """
    path = directory / CERTIFICATE_NAME
    needed = {"opsets", "vocabulary", "text_ids", "text_embeds", "scores", "sketches", "scales", "sets"}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        absent = sorted(needed - data.keys())
        if absent or "drawn" not in data["sets"]:
            raise ValueError(f"{', '.join(absent) or 'the drawn set'} is missing")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} cannot be read ({error}). Export the student again.") from error
    return dict(data)


def graph_opsets(directory: Path) -> dict[str, int]:
    """Name of each graph of a bundle -> the version of ONNX's operators that it is written in.

    Raises:
        BundleError: a file is no ONNX graph.
        MissingDependencyError: the package ``onnx`` is absent.
    """
    onnx = require("onnx", "export")
    found = {}
    for path in sorted((directory / "onnx").glob("*.onnx")):
        try:
            model = onnx.load(path, load_external_data=False)
        except Exception as error:  # protobuf and onnx raise classes of their own
            raise BundleError(f"{path} is not an ONNX graph ({error}). Export the student again.") from error
        found[path.stem] = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    return found


def check_opsets(directory: Path, noted: int, certificate: Mapping[str, Any]) -> None:
    """Compare the graphs' opsets with the manifest and the certificate.

    Raises:
        ParityError: one differs: the same file means something else under another version.
    """
    found = graph_opsets(directory)
    for graph, version in found.items():
        expected = certificate["opsets"].get(graph)
        # Quantization may lift single graphs to a later opset than the manifest's, never all of them.
        if version != expected or noted not in certificate["opsets"].values():
            raise ParityError(
                f"The graph {graph} is written in opset {version}; the certificate says {expected} and the manifest "
                f"{noted}. Do not use this bundle; export the student again."
            )
    if absent := sorted(certificate["opsets"].keys() - found.keys()):
        raise ParityError(f"The bundle lacks the graphs {', '.join(absent)} that its certificate names.")


def check_certificate(
    student: OnnxStudent, certificate: dict[str, Any], data: Sequence[GoldenPicture] | None = None
) -> dict[str, Any]:
    """Ask the bundle again and compare with what torch answered when it was exported.

    Args:
        student: the bundle.
        certificate: see :func:`read_certificate`.
        data: the pictures of the data set that was given to the export, to compare those too.

    Returns:
        ``max_abs`` of the embeddings, and the number of ``pictures``, ``texts`` and ``tensors`` that were compared.

    Raises:
        ParityError: an answer differs, or the pictures are not the ones of the export.
    """
    sets = {"drawn": drawn_pictures()} | ({"data": list(data)} if data is not None else {})
    for name, pictures in sets.items():
        expected = certificate["sets"].get(name)
        if expected is None or expected["digest"] != picture_digest(pictures):
            raise ParityError(
                f"The {name} pictures are not those that the bundle was exported with, so there is nothing to compare "
                "with. Give the same data set and split as at the export."
            )
    try:
        answers = onnx_answers(student, sets)
    except VlkdError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own, where a shape does not fit for example
        raise ParityError(f"The bundle cannot answer the golden pictures at all: {error}") from error
    return _compare(student, certificate, answers, sets)


def _compare(
    student: OnnxStudent,
    certificate: dict[str, Any],
    answers: Answers,
    sets: Mapping[str, Sequence[GoldenPicture]],
) -> dict[str, Any]:
    atol = float(student.manifest.parity["atol"])
    if answers.vocabulary != certificate["vocabulary"] or answers.text_ids != certificate["text_ids"]:
        raise ParityError("The tokenizer is not the one of the export: its words or their numbers differ.")
    worst = _far(certificate["text_embeds"], answers.text_embeds, atol, "embeddings of the texts")
    texts = 0
    for name, pictures in sets.items():
        expected, what = certificate["sets"][name], f"embeddings of the {name} pictures"
        worst = max(worst, _far(expected["image_embeds"], answers.image_embeds[name], atol, what))
        for key, found in (("tokens", answers.greedy[name]), ("beams", answers.beams[name])):
            texts += _same_texts(student, pictures, expected[key], found)
    if certificate["scores"] is not None:
        wanted = certificate["scores"]
        found_scores = np.zeros((0, 0), np.float32) if answers.scores is None else answers.scores
        scale = max(1.0, float(np.abs(np.array(wanted)).max()))
        _far(wanted, found_scores, atol * scale, "scores of pictures against texts")
    for name, rows in certificate["sketches"].items():
        scale = max(1.0, float(certificate["scales"][name]))
        _far(rows, np.array(answers.sketches.rows.get(name, [])), atol * scale, f"sketches of {name}")
    _check_picture_encoder(student, sets["drawn"], answers.image_embeds["drawn"])
    tensors = sum(len(rows) for rows in certificate["sketches"].values())
    return {"max_abs": worst, "pictures": sum(len(s) for s in sets.values()), "texts": texts, "tensors": tensors}


def _same_texts(
    student: OnnxStudent,
    pictures: Sequence[GoldenPicture],
    expected: Mapping[str, list[list[int]]],
    found: Mapping[str, list[list[int]]],
) -> int:
    """Compare the texts of each task; returns how many there were."""
    if expected.keys() != found.keys():
        raise ParityError(f"The bundle writes for {sorted(found)} and at the export it did for {sorted(expected)}.")
    for task, rows in expected.items():
        asks = "{question}" in student.text_processor.task(task)["prompt"]
        some = [picture for picture in pictures if picture.question or not asks]
        for picture, wanted, got in zip(some, rows, found[task], strict=False):
            if wanted != got:
                words, others = student.text_processor.decode([wanted, got])
                raise ParityError(
                    f"The task {task!r} writes another text for {picture.name} than at the export: {others!r}, "
                    f"expected {words!r}."
                )
        if len(rows) != len(found[task]):
            raise ParityError(f"The task {task!r} wrote {len(found[task])} texts, at the export {len(rows)}.")
    return sum(len(rows) for rows in expected.values())


def _check_picture_encoder(
    student: OnnxStudent, pictures: Sequence[GoldenPicture], embeds: NDArray[np.float32]
) -> None:
    if "picture_encoder" not in student.sessions:
        return
    for picture, wanted in zip(pictures, embeds, strict=True):
        found = student.embed_pixels(picture.pixels()[None])[0]
        cosine = float(found @ wanted / (np.linalg.norm(found) * np.linalg.norm(wanted)))
        if not cosine >= MIN_PICTURE_COSINE:
            raise ParityError(
                f"The graph picture_encoder embeds {picture.name} with cosine {cosine:.6f} to the processor's vector; "
                f"expected {MIN_PICTURE_COSINE} or more."
            )


def _far(expected: list[list[float]], found: NDArray[Any], atol: float, what: str) -> float:
    wanted = np.array(expected, dtype=np.float64)
    difference = float(np.abs(wanted - found).max()) if wanted.shape == found.shape else float("inf")
    if not difference <= atol + 10.0**-DECIMALS:
        raise ParityError(
            f"The {what} differ from those at the export by up to {difference:.3g}; allowed is {atol:.3g}."
        )
    return difference


def _rounded(vectors: NDArray[Any]) -> list[list[float]]:
    return [[round(float(value), DECIMALS) for value in row] for row in vectors]
