"""The gate: an exported student answers as the one it came from, or there is no bundle.

Two checks. Tensors, here: every graph against torch on golden pictures and texts, in different batch sizes and
lengths. Tokens, in :mod:`vlkd_export.token_parity`: whole captions and answers, greedy and by beam search, from
picture and words to token ids, since small differences of tensors add up over a text and a wrong preprocessing
changes no graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vlkd_export.answers import MATCHED, taking_part
from vlkd_export.golden import TEXTS, GoldenPicture
from vlkd_export.torch_reference import TorchReference
from vlkd_hub.errors import ParityError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.context_rows import order_of_places
from vlkd_hub.runtime.decoder import CachedDecoder

__all__ = ["TensorReport", "check_tensors"]

BATCH = 16
MIN_PICTURE_COSINE = 0.9999
"""Of the vector by the graph that resizes with the vector by the processor: whole bytes may round apart."""


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
    argmax: float | None = None
    """Share of rows whose largest value stands at the same place, of outputs that are ranked (logits, scores); a place
    may differ only where torch's margin between the two is below what the tolerance allows."""


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
    graphs = {"image_encoder": _image_pairs, "text_encoder": _text_pairs, "search": _search_pairs}
    if student.manifest.generation is not None:
        graphs["decoder"] = _decoder_pairs
    if "model" in student.sessions:
        graphs["model"] = _monolith_pairs
    if "image_tokens" in student.sessions:
        graphs |= {"image_tokens": _image_token_pairs, "text_tokens": _text_token_pairs, "matching": _matching_pairs}
    reports = []
    with torch.no_grad():
        for graph, pairs_of in graphs.items():
            report = TensorReport(graph=graph, max_abs=0.0, scaled=0.0, cosine=1.0, cases=0)
            for case, expected, found in pairs_of(reference, student, pictures):
                report = _further(report, case, expected, found, atol)
                if graph in RANKED:
                    report = _ranked(report, case, expected, found, atol)
            reports.append(report)
        if "picture_encoder" in student.sessions:
            reports.append(_check_picture_encoder(reference, student, pictures))
    return reports


RANKED = ("search", "decoder", "model", "matching")
"""What is read by its largest value."""
Pair = tuple[str, torch.Tensor, NDArray[np.float32]]


def _image_pairs(reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]) -> Iterator[Pair]:
    names = reference.exporter.image_outputs
    for some in (pictures[:1], pictures[1:4] or pictures, pictures[:BATCH]):
        pixels = reference.pixels(some)
        for name, expected, found in zip(
            names, reference.encode_image(pixels), student.encode_image(pixels.numpy()), strict=False
        ):
            yield f"{name} of {len(some)} pictures", expected, found
    if isinstance(student.sessions["image_encoder"].get_inputs()[0].shape[2], str):  # a name: any size goes in
        for scale in (0.5, 1.25):
            side = int(scale * pixels.shape[-1]) // 32 * 32
            resized = torch.nn.functional.interpolate(pixels[:3], size=(side, side))
            expected, found = reference.encode_image(resized)[0], student.encode_image(resized.numpy())[0]
            yield f"image_embeds of {side} x {side} pixels", expected, found
    # From the picture itself: a wrong preprocessing changes no graph.
    whole = reference.embed_pictures(pictures)
    yield "image_embeds from picture to vector", whole, student.embed_images([picture.image for picture in pictures])


def _text_pairs(reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]) -> Iterator[Pair]:
    for some in (list(TEXTS[:1]), list(TEXTS), _captions(pictures)):
        if some:
            input_ids, mask = reference.texts(some)
            expected, *states = reference.encode_text(input_ids, mask)
            found, found_states = student.encode_text(input_ids.numpy(), mask.numpy())
            shape = f"{len(some)} texts of up to {input_ids.shape[1]} tokens"
            yield f"text_embeds of {shape}", expected, found
            if states:
                # What stands behind the end of a text is masked out wherever it is used.
                seen = mask.bool()
                yield f"text_states of {shape}", states[0][seen], found_states[seen.numpy()]
            yield f"text_embeds from text to vector, {shape}", expected, student.embed_texts(some)


def _captions(pictures: Sequence[GoldenPicture]) -> list[str]:
    return [caption for picture in pictures for caption in picture.captions][:BATCH]


def _search_pairs(reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]) -> Iterator[Pair]:
    """Cosines of all pictures with texts, and the other way round: which one is found must be the same."""
    texts = _captions(pictures) or list(TEXTS)
    expected = reference.embed_pictures(pictures) @ reference.encode_text(*reference.texts(texts))[0].t()
    found = student.embed_images([picture.image for picture in pictures]) @ student.embed_texts(texts).T
    yield "cosines of pictures with texts", expected, found
    yield "cosines of texts with pictures", expected.t().contiguous(), np.ascontiguousarray(found.T)


def _image_token_pairs(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> Iterator[Pair]:
    """Patches and their attention, of one picture and, where the bundle takes that, of several at once."""
    for some in (pictures[:1], pictures[: student.batch_size][:BATCH]):
        pixels = reference.pixels(some)
        outputs = student.sessions["image_tokens"].run(None, {"pixel_values": pixels.numpy()})
        for name, expected, found in zip(MATCHED, reference.match_image(pixels), outputs, strict=False):
            yield f"{name} of {len(some)} pictures", expected, found


def _text_token_pairs(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> Iterator[Pair]:
    """Tokens of texts; what stands behind the end of a text is never compared with a patch."""
    for some in (list(TEXTS[:1]), list(TEXTS[: student.batch_size]), _captions(pictures)[: student.batch_size]):
        if some:
            input_ids, mask = reference.texts(some)
            feeds = {"input_ids": input_ids.numpy(), "attention_mask": mask.numpy()}
            (found,) = student.sessions["text_tokens"].run(None, feeds)
            seen = mask.bool()
            yield f"text_tokens of {len(some)} texts", reference.match_text(input_ids, mask)[seen], found[seen.numpy()]


def _matching_pairs(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> Iterator[Pair]:
    """From picture and text to the cosines of every word with every patch: the best patch must be the same."""
    for number, picture in enumerate(pictures[:BATCH]):
        text = TEXTS[number % len(TEXTS)]
        tokens = reference.match_text(*reference.texts([text]))[0]
        cosines = tokens @ reference.match_image(reference.pixels([picture]))[0][0].t()
        match = student.match_words(picture.image, text)
        places = [word.tokens for word in student.text_processor.spell(text)[1]]
        expected = torch.stack([cosines[list(some)].mean(dim=0) for some in places])
        found = np.stack([word.scores.reshape(-1) for word in match.words])
        yield f"words of {text!r} in {picture.name}", expected, found


def _monolith_pairs(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> Iterator[Pair]:
    """Scores with temperature, for one picture and one text, and for several."""
    for count, texts in ((1, TEXTS[:1]), (5, TEXTS)):
        some = pictures[:count]
        vectors = reference.encode_image(reference.pixels(some))[0], reference.encode_text(*reference.texts(texts))[0]
        expected = reference.exporter.logit_scale * vectors[0] @ vectors[1].t()
        found = student.score([picture.image for picture in some], list(texts))
        yield f"logits_per_image of {count} pictures and {len(texts)} texts", expected, found


def _decoder_pairs(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> Iterator[Pair]:
    """Logits over a text read token by token with the cache, against torch's forward pass without one."""
    task, item = next(iter(student.manifest.tasks.items()))
    pictures = taking_part(item["prompt"], pictures)
    for some, length in ((pictures[:1], 1), (pictures[:1], 12), (pictures[:5], 9)):
        ids, expected, decoder = _texts_to_read(reference, student, task, some, length)
        for step in range(length):
            yield f"logits of {len(some)} texts at step {step}", expected[:, step], decoder.step(ids[:, step])
    yield from _joining_pairs(reference, student, task, pictures[:5])


def _joining_pairs(
    reference: TorchReference, student: OnnxStudent, task: str, pictures: Sequence[GoldenPicture]
) -> Iterator[Pair]:
    """The same where one text after the other joins, so that each is at another position; those that end leave."""
    length, late = 9, 2
    ids, expected, decoder = _texts_to_read(reference, student, task, pictures, length)
    context, mask = (part.numpy() for part in reference.context(task, pictures))
    decoder.reorder(np.zeros(1, dtype=np.int64))
    rows = [0]
    for step in range(length + late * (len(pictures) - 1)):
        if step and step % late == 0 and step // late < len(pictures):
            row = step // late
            decoder.join(context[row : row + 1], mask[row : row + 1])
            rows.append(row)
        read = [step - late * row for row in rows]
        stay = [place for place, at in enumerate(read) if at < length]
        if len(stay) < len(rows):
            order = order_of_places(stay)
            decoder.reorder(np.array(order, dtype=np.int64))
            rows, read = [rows[place] for place in order], [read[place] for place in order]
        found = decoder.step(ids[rows, read])
        yield f"logits of texts that join and leave, step {step}", expected[rows, read], found


def _texts_to_read(
    reference: TorchReference, student: OnnxStudent, task: str, pictures: Sequence[GoldenPicture], length: int
) -> tuple[NDArray[np.int64], torch.Tensor, CachedDecoder]:
    """Token ids ``(texts, length)``, torch's logits of them, and a decoder that looks at the pictures."""
    spec = student.manifest.generation
    assert spec is not None
    ids = np.random.RandomState(length).randint(0, spec.vocab_size, (len(pictures), length))
    ids[:, 0] = spec.decoder_start_token_id
    context, mask = reference.context(task, pictures)
    sessions = student.sessions["cross_attention"], student.sessions["decoder"]
    decoder = CachedDecoder(*sessions, spec, context.numpy(), mask.numpy())
    return ids, reference.logits(task, pictures, torch.from_numpy(ids)), decoder


def _check_picture_encoder(
    reference: TorchReference, student: OnnxStudent, pictures: Sequence[GoldenPicture]
) -> TensorReport:
    """From uint8 pixels to the vector that the processor and torch make of the same picture."""
    expected = reference.embed_pictures(pictures)
    found = np.concatenate([student.embed_pixels(picture.pixels()[None]) for picture in pictures])
    difference, cosine = _compare(expected, found)
    if not cosine >= MIN_PICTURE_COSINE:
        raise ParityError(
            f"The graph picture_encoder differs from processor and torch: smallest cosine of {len(pictures)} pictures "
            f"{cosine:.6f}, expected {MIN_PICTURE_COSINE} or more. No bundle was written."
        )
    scaled = difference / max(1.0, float(expected.abs().max()))
    return TensorReport(graph="picture_encoder", max_abs=difference, scaled=scaled, cosine=cosine, cases=len(pictures))


def _ranked(
    report: TensorReport, case: str, expected: torch.Tensor, found: NDArray[np.float32], atol: float
) -> TensorReport:
    """Compare the places of the largest values, row by row."""
    wanted = expected.numpy().reshape(-1, expected.shape[-1])
    first, other = wanted.argmax(axis=1), found.reshape(wanted.shape).argmax(axis=1)
    rows = np.arange(len(wanted))
    margins = wanted[rows, first] - wanted[rows, other]
    allowed = 2 * atol * max(1.0, float(np.abs(wanted).max()))
    if (margins > allowed).any():
        row = int(margins.argmax())
        raise ParityError(
            f"The graph {report.graph} ranks another value first: {case}, row {row}, torch {first[row]}, ONNX "
            f"{other[row]}, margin {margins[row]:.3g} (below {allowed:.3g} it would count as a tie). "
            "No bundle was written."
        )
    same = float((first == other).mean())
    before = 1.0 if report.argmax is None else report.argmax
    return replace(report, argmax=(before * (report.cases - 1) + same) / report.cases)


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
    return replace(
        report,
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
