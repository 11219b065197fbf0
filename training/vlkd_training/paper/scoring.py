"""Scores of a student on held-out pictures whose tokens are cached; all in points, CIDEr 100 times as high."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vlkd_hub._optional import require
from vlkd_hub.inference import TorchStudent
from vlkd_training.data.records import QuestionAnswer, Record
from vlkd_training.evaluation.captioning import derangement
from vlkd_training.evaluation.retrieval import retrieval_metrics
from vlkd_training.evaluation.tokenizer import tokenize
from vlkd_training.evaluation.vqa import FrequentAnswers, vqa_metrics

__all__ = ["CachedStudent", "HeldOut", "answer_scores", "caption_scores", "retrieval_scores"]


class CachedStudent(TorchStudent):
    """A student whose pictures are rows of a cached array: wherever a picture is expected, its number is given.

    Args:
        model: the student.
        processor: its processor.
        tokens: V of every picture, indexed by row.
        batch_size: pictures or texts a pass.
    """

    def __init__(self, model: Any, processor: Any, tokens: Any, batch_size: int = 128) -> None:
        super().__init__(model, processor, batch_size=batch_size, picture_cache_bytes=0)
        self.tokens = tokens

    def _visual_tokens(self, images: Sequence[Any]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.tokens[row] for row in images])).float()

    @torch.inference_mode()
    def fill_answers(self, images: Sequence[int], questions: Sequence[str], *, max_new_tokens: int = 6) -> list[str]:
        """Answers of a student that never learnt to answer: what it writes in the place of the mask (section 4.3.2).

        The encoder reads ``question Answer: [MASK].``; the decoder, which was trained to repeat the whole text, is
        given ``question Answer:`` and writes on up to the full stop.
        """
        tokenizer, config = self.processor.tokenizer, self.model.config
        starts = [config.decoder_start_token_id]
        if tokenizer.bos_token_id is not None and tokenizer.eos_token_id is not None:
            starts.append(tokenizer.bos_token_id)  # a BART target begins with <s>
        known = [
            [*starts, *tokenizer(f"{question} Answer:", add_special_tokens=False)["input_ids"]]
            for question in questions
        ]
        by_length: dict[int, list[int]] = defaultdict(list)
        for at, ids in enumerate(known):
            by_length[len(ids)].append(at)
        answers = [""] * len(questions)
        for length, group in by_length.items():
            for begin in range(0, len(group), self.batch_size):
                chosen = group[begin : begin + self.batch_size]
                prompts = [f"{questions[at]} Answer: {tokenizer.mask_token}." for at in chosen]
                ids = self.model.generate(
                    **self._tokens(prompts),
                    image_tokens=self._visual_tokens([images[at] for at in chosen]),
                    decoder_input_ids=torch.tensor([known[at] for at in chosen]),
                    max_new_tokens=max_new_tokens,
                    num_beams=1,
                )
                for at, text in zip(
                    chosen, tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True), strict=True
                ):
                    answers[at] = text.split(".")[0].strip()
        return answers


class HeldOut:
    """Pictures that no run trains on.

    Args:
        records: the pictures' texts.
        tokens: V of each, indexed by row.
        train_questions: of the training split, for the most-frequent-answer baseline.
    """

    def __init__(self, records: Sequence[Record], tokens: Any, train_questions: Sequence[QuestionAnswer] = ()) -> None:
        self.records, self.tokens = records, tokens
        self.baseline = FrequentAnswers(train_questions) if train_questions else None


def retrieval_scores(student: CachedStudent, held: HeldOut) -> dict[str, float]:
    """Text to image ``r@1`` and ``r@10``, image to text ``i2t_r@1``."""
    texts = [caption for record in held.records for caption in record.captions]
    owners = [row for row, record in enumerate(held.records) for _ in record.captions]
    order = np.argsort([len(text) for text in texts], kind="stable")  # equal lengths together: less padding
    embeds = np.empty((len(texts), student.model.config.projection_dim), np.float32)
    embeds[order] = student.embed_texts([texts[at] for at in order])
    found = retrieval_metrics(student.embed_images(range(len(held.records))), embeds, owners)  # type: ignore[arg-type]
    forth, back = found["text_to_image"], found["image_to_text"]
    return {"r@1": 100 * forth["r@1"], "r@10": 100 * forth["r@10"], "i2t_r@1": 100 * back["r@1"]}


def caption_scores(
    student: CachedStudent, held: HeldOut, masks: Sequence[int] = (), examples: int = 3
) -> tuple[dict[str, float], list[dict[str, str]]]:
    """CIDEr, and the same captions on other pictures.

    Args:
        student: writes, with the processor's own number of masks.
        held: pictures with captions.
        masks: other numbers of masks to try; their scores are ``cider_m5`` and so on.
        examples: captions to give back as they were written.
    """
    rows = range(len(held.records))
    written = student.caption(rows)  # type: ignore[arg-type]
    others = {}
    task = student.processor.tasks["caption"]
    own = task["num_masks"]
    for number in masks:
        task["num_masks"] = number
        others[f"cider_m{number}"] = student.caption(rows)  # type: ignore[arg-type]
    task["num_masks"] = own
    order = derangement(len(written), seed=0)
    sets = {"cider": written, "cider_shuffled": [written[at] for at in order]} | others
    scores = _cider(sets, [list(record.captions) for record in held.records])
    shown = [
        {"id": held.records[row].id, "written": written[row], "own": held.records[row].captions[0]} for row in rows
    ]
    return scores, shown[:examples]


def answer_scores(
    student: CachedStudent, held: HeldOut, *, fill: bool
) -> tuple[dict[str, float], list[dict[str, str]]]:
    """Accuracy of the answers, of all and by type, beside the most frequent answer of each type.

    Args:
        student: answers.
        held: pictures with questions.
        fill: for a student that never learnt to answer, see :meth:`CachedStudent.fill_answers`.
    """
    asked = [(row, item) for row, record in enumerate(held.records) for item in record.qa]
    rows, questions = [row for row, _ in asked], [item.question for _, item in asked]
    answer: Any = student.fill_answers if fill else student.answer
    said = answer(rows, questions)
    found = vqa_metrics(said, [item for _, item in asked], held.baseline)
    scores = {"vqa": 100 * found["accuracy"]}
    if held.baseline is not None:
        scores["vqa_guess"] = 100 * found["baseline"]
    for kind, part in found["by_type"].items():
        scores[f"vqa:{kind}"] = 100 * part["accuracy"]
    shown = [
        {"question": item.question, "said": text, "own": ", ".join(item.answers)}
        for (_, item), text in zip(asked, said, strict=True)
    ]
    return scores, shown[:: max(1, len(shown) // 5)][:5]


def _cider(written: dict[str, list[str]], references: list[list[str]]) -> dict[str, float]:
    """CIDEr of several sets of captions of the same pictures."""
    texts = [text for captions in written.values() for text in captions]
    tokens, _ = tokenize([*texts, *(text for captions in references for text in captions)])
    rest = iter(tokens)
    sets = {name: {row: [next(rest)] for row in range(len(captions))} for name, captions in written.items()}
    expected = {row: [next(rest) for _ in captions] for row, captions in enumerate(references)}
    scorer = require("pycocoevalcap.cider.cider", "train")
    return {name: 100 * float(scorer.Cider().compute_score(expected, found)[0]) for name, found in sets.items()}
