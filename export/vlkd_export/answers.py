"""Everything that a model answers to the golden pictures and texts, from torch or from a bundle, in one form.

What torch answers at the export is stored; ``vlkd verify`` asks the bundle the same and compares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vlkd_export.golden import TEXTS, GoldenPicture
from vlkd_export.sketch import sketch
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.decoder import CachedDecoder

__all__ = [
    "BEAMS",
    "BEAM_PICTURES",
    "MATCHED",
    "Answers",
    "Sketches",
    "onnx_answers",
    "taking_part",
    "vocabulary_digest",
]

BEAMS = 3
BEAM_PICTURES = 16
"""Pictures of each set whose texts are also written by beam search."""
SKETCHED_PICTURES = 8
SKETCHED_TEXTS = 2
"""Texts a task whose logits are sketched at each step."""
MATCHED = ("image_tokens", "image_attention")
"""What the graph ``image_tokens`` gives, in order."""

Texts = dict[str, list[list[int]]]
"""Task -> tokens of each picture that takes part."""


@dataclass
class Sketches:
    """Tensors inside the model as sketches: name -> rows, and name -> largest value of the tensors."""

    rows: dict[str, list[list[float]]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, tensor: NDArray[np.float32]) -> None:
        """Take in one more tensor under ``name``, shape ``(rows, ...)``."""
        self.rows.setdefault(name, []).extend(sketch(tensor).tolist())
        self.scales[name] = max(self.scales.get(name, 0.0), float(np.abs(tensor).max()))


@dataclass(kw_only=True)
class Answers:
    """What was answered to the golden sets, ``"drawn"`` and perhaps ``"data"``."""

    text_embeds: NDArray[np.float32]
    """Of :data:`vlkd_export.golden.TEXTS`, ``(texts, dim)``."""
    text_ids: list[list[int]]
    """Their tokens, without padding."""
    vocabulary: str
    """Digest of the whole vocabulary."""
    image_embeds: dict[str, NDArray[np.float32]]
    greedy: dict[str, Texts]
    beams: dict[str, Texts]
    sketches: Sketches
    scores: NDArray[np.float32] | None = None
    """Of the drawn pictures with the texts, cosine over temperature, ``(pictures, texts)``; None without that graph."""


def onnx_answers(student: OnnxStudent, pictures: Mapping[str, Sequence[GoldenPicture]]) -> Answers:
    """Ask a bundle.

    Args:
        student: the bundle.
        pictures: name of the set -> its pictures; ``"drawn"`` must be there.
    """
    greedy = {name: dict(_texts(student, some, 1)) for name, some in pictures.items()}
    drawn = pictures["drawn"]
    texts = list(TEXTS)
    return Answers(
        text_embeds=student.embed_texts(texts),
        text_ids=[student.text_processor([text])[0][0][: _real(student, text)].tolist() for text in texts],
        vocabulary=vocabulary_digest(student.text_processor.tokenizer),
        image_embeds={name: student.embed_images([p.image for p in some]) for name, some in pictures.items()},
        greedy=greedy,
        beams={name: dict(_texts(student, some[:BEAM_PICTURES], BEAMS)) for name, some in pictures.items()},
        sketches=_sketches(student, drawn, greedy["drawn"]),
        scores=student.score([p.image for p in drawn], texts) if "model" in student.sessions else None,
    )


def taking_part(prompt: str, pictures: Sequence[GoldenPicture]) -> list[GoldenPicture]:
    """Those pictures that have the question a task's prompt asks for."""
    return [picture for picture in pictures if picture.question or "{question}" not in prompt]


def vocabulary_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 over every word and its number."""
    words = sorted(tokenizer.get_vocab(with_added_tokens=True).items())
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _real(student: OnnxStudent, text: str) -> int:
    return int(student.text_processor([text])[1].sum())


def _texts(
    student: OnnxStudent, pictures: Sequence[GoldenPicture], num_beams: int
) -> Iterator[tuple[str, list[list[int]]]]:
    for task, item in student.text_processor.tasks.items():
        some = taking_part(item["prompt"], pictures)
        settings = student.settings(task, num_beams=num_beams, do_sample=False)
        yield task, student.write_tokens(task, [p.image for p in some], [p.question for p in some], settings)


def _sketches(student: OnnxStudent, pictures: Sequence[GoldenPicture], greedy: Texts) -> Sketches:
    found = Sketches()
    if "image_tokens" in student.sessions:
        _sketch_matching(student, pictures, found)
    if student.manifest.generation is None:
        return found
    for picture in pictures[:SKETCHED_PICTURES]:
        found.add("visual_states", student.encode_image(student.image_processor([picture.image]))[1])
    for text in TEXTS:
        input_ids, mask = student.text_processor([text])
        found.add("text_states", student.encode_text(input_ids, mask)[1][mask.astype(bool)][None])
    for task, rows in greedy.items():
        some = taking_part(student.text_processor.task(task)["prompt"], pictures)[:SKETCHED_TEXTS]
        for picture, tokens in zip(some, rows, strict=False):
            found.add(f"{task}_logits", _logits(student, task, picture, tokens))
    return found


def _sketch_matching(student: OnnxStudent, pictures: Sequence[GoldenPicture], found: Sketches) -> None:
    for picture in pictures[:SKETCHED_PICTURES]:
        outputs = student.sessions["image_tokens"].run(None, {"pixel_values": student.image_processor([picture.image])})
        for name, output in zip(MATCHED, outputs, strict=False):
            found.add(name, output)
    for text in TEXTS:
        input_ids, mask = student.text_processor([text])
        (tokens,) = student.sessions["text_tokens"].run(None, {"input_ids": input_ids, "attention_mask": mask})
        found.add("text_tokens", tokens[mask.astype(bool)][None])


def _logits(student: OnnxStudent, task: str, picture: GoldenPicture, tokens: list[int]) -> NDArray[np.float32]:
    """Logits of every step of a text that is given, ``(len(tokens), vocab)``."""
    spec = student.manifest.generation
    assert spec is not None
    _, visual = student.encode_image(student.image_processor([picture.image]))
    prompt, mask = student.encode_prompts(task, [picture.question])
    decoder = CachedDecoder(
        student.sessions["cross_attention"],
        student.sessions["decoder"],
        spec,
        np.concatenate([visual, prompt], axis=1),
        np.concatenate([np.ones(visual.shape[:2], np.int64), mask], axis=1),
    )
    read: Any = [spec.decoder_start_token_id, *tokens[:-1]]
    return np.concatenate([decoder.step(np.array([token])) for token in read])
