"""The golden answers of the model in torch, in the form in which a bundle gives its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vlkd_export.answers import (
    BEAMS,
    MATCHED,
    SKETCHED_PICTURES,
    SKETCHED_TEXTS,
    Answers,
    Sketches,
    Texts,
    taking_part,
    vocabulary_digest,
)
from vlkd_export.golden import TEXTS, GoldenPicture
from vlkd_export.torch_reference import TorchReference

__all__ = ["torch_answers"]


def torch_answers(
    reference: TorchReference,
    prompts: Mapping[str, str],
    pictures: Mapping[str, Sequence[GoldenPicture]],
    tokens: Mapping[str, Mapping[int, Texts]],
    with_scores: bool,
    with_matching: bool,
) -> Answers:
    """Ask torch.

    Args:
        reference: the model.
        prompts: task -> prompt of the tasks that the bundle has.
        pictures: name of the set -> its pictures; ``"drawn"`` must be there.
        tokens: name of the set -> number of beams -> torch's texts, as the gate has found them already.
        with_scores: score pictures against texts too.
        with_matching: sketch what words and patches are compared by too.
    """
    input_ids, mask = reference.texts(TEXTS)
    text_embeds = reference.encode_text(input_ids, mask)[0]
    image_embeds = {name: reference.embed_pictures(some) for name, some in pictures.items()}
    scores = None
    if with_scores:
        scores = (reference.exporter.logit_scale * image_embeds["drawn"] @ text_embeds.t()).numpy()
    sketches = _sketches(reference, prompts, pictures["drawn"], tokens["drawn"].get(1, {}))
    if with_matching:
        _sketch_matching(reference, pictures["drawn"], sketches)
    return Answers(
        text_embeds=text_embeds.numpy(),
        text_ids=[ids[real.bool()].tolist() for ids, real in zip(input_ids, mask, strict=True)],
        vocabulary=vocabulary_digest(reference.processor.tokenizer.backend_tokenizer),
        image_embeds={name: embeds.numpy() for name, embeds in image_embeds.items()},
        greedy={name: tokens[name].get(1, {}) for name in pictures},
        beams={name: tokens[name].get(BEAMS, {}) for name in pictures},
        sketches=sketches,
        scores=scores,
    )


def _sketches(
    reference: TorchReference, prompts: Mapping[str, str], pictures: Sequence[GoldenPicture], greedy: Texts
) -> Sketches:
    found = Sketches()
    if not greedy:
        return found
    for picture in pictures[:SKETCHED_PICTURES]:
        found.add("visual_states", reference.encode_image(reference.pixels([picture]))[1].numpy())
    for text in TEXTS:
        input_ids, mask = reference.texts([text])
        found.add("text_states", reference.encode_text(input_ids, mask)[1][mask.bool()][None].numpy())
    for task, rows in greedy.items():
        some = taking_part(prompts[task], pictures)[:SKETCHED_TEXTS]
        start = reference.model.generation_config.decoder_start_token_id
        for picture, tokens in zip(some, rows, strict=False):
            prefix = torch.tensor([[start, *tokens[:-1]]])
            found.add(f"{task}_logits", np.asarray(reference.logits(task, [picture], prefix)[0]))
    return found


def _sketch_matching(reference: TorchReference, pictures: Sequence[GoldenPicture], found: Sketches) -> None:
    for picture in pictures[:SKETCHED_PICTURES]:
        for name, output in zip(MATCHED, reference.match_image(reference.pixels([picture])), strict=False):
            found.add(name, output.numpy())
    for text in TEXTS:
        input_ids, mask = reference.texts([text])
        found.add("text_tokens", reference.match_text(input_ids, mask)[mask.bool()][None].numpy())
