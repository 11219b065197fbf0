"""Scores from cached pictures are those that the pictures themselves would get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vlkd_hub.inference import TorchStudent
from vlkd_training.data.records import QuestionAnswer, Record, RecordDataset
from vlkd_training.evaluation.scores import SplitScores
from vlkd_training.paper.scoring import CachedStudent, HeldOut, answer_scores, caption_scores, retrieval_scores


@pytest.fixture(scope="module")
def plain(tiny_student: Path) -> TorchStudent:
    return TorchStudent.from_pretrained(tiny_student)


@pytest.fixture(scope="module")
def scores() -> SplitScores:
    return SplitScores("scenes:6", "test")


@pytest.fixture(scope="module")
def cached(plain: TorchStudent, scores: SplitScores) -> CachedStudent:
    """The same student with the tokens of six pictures."""
    pixels = plain._pixels([record.load_image() for record in scores.records])
    with torch.inference_mode():
        tokens = plain.model.vlkd.image_tokens(pixels).numpy()
    return CachedStudent(plain.model, plain.processor, tokens, batch_size=4)


def test_captions_and_vectors_are_those_of_the_pictures(
    plain: TorchStudent, cached: CachedStudent, scores: SplitScores
) -> None:
    pictures = [record.load_image() for record in scores.records]
    assert cached.caption(range(6)) == plain.caption(pictures)  # type: ignore[arg-type]
    np.testing.assert_allclose(cached.embed_images(range(6)), plain.embed_images(pictures), atol=1e-6)  # type: ignore[arg-type]
    asked = ["what color is the circle?", "how many are there?"]
    assert cached.answer([5, 1], asked) == plain.answer([pictures[5], pictures[1]], asked)  # type: ignore[list-item]


def test_how_many_answers_a_measure_is_the_mean_of(scores: SplitScores) -> None:
    counts = scores.counts
    assert counts["i2t_r@10"] == len(scores.records) and counts["r@1"] == 5 * len(scores.records)
    assert counts["vqa"] == sum(len(record.qa) for record in scores.records) > 0 and "cider" not in counts


def test_scores_are_those_of_the_evaluation(plain: TorchStudent, cached: CachedStudent, scores: SplitScores) -> None:
    expected = scores(plain, ["retrieval", "caption", "vqa"])
    held = HeldOut(scores.records.records, cached.tokens)
    found = (
        retrieval_scores(cached, held) | caption_scores(cached, held)[0] | answer_scores(cached, held, fill=False)[0]
    )
    for name in ("r@1", "r@10", "i2t_r@1", "cider", "vqa"):
        assert found[name] == pytest.approx(expected[name], abs=1e-3), name
    assert "vqa_guess" not in found


def test_a_mask_is_filled_with_what_comes_after_the_known_words(cached: CachedStudent) -> None:
    """Each answer is what greedy decoding writes after ``question Answer:``; the known words are not part of it."""
    questions = ["what color is the circle?", "how many are there?", "what is the shape of the red square?"]
    found = cached.fill_answers([0, 1, 2], questions, max_new_tokens=3)
    tokenizer, model = cached.processor.tokenizer, cached.model
    for row, question in enumerate(questions):
        known = [
            model.config.decoder_start_token_id,
            *tokenizer(f"{question} Answer:", add_special_tokens=False).input_ids,
        ]
        ids = torch.tensor([known])
        prompt = cached._tokens([f"{question} Answer: [MASK]."])
        for _ in range(3):
            with torch.inference_mode():
                logits = model(**prompt, image_tokens=cached._visual_tokens([row]), decoder_input_ids=ids).logits
            ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            if ids[0, -1] == tokenizer.sep_token_id:
                break
        written = tokenizer.decode(ids[0, len(known) :], skip_special_tokens=True)
        assert found[row] == written.split(".")[0].strip()


def test_the_guess_is_the_usual_answer_of_the_type() -> None:
    records = [Record(id="a", qa=(QuestionAnswer("what color is it?", ("red",)),), draw=lambda: None)]  # type: ignore[arg-type,return-value]
    held = HeldOut(RecordDataset(records).records, None, [QuestionAnswer("what color is she?", ("red",))])

    class Blue:
        def answer(self, images: list[int], questions: list[str]) -> list[str]:
            return ["blue"]

    found, shown = answer_scores(Blue(), held, fill=False)  # type: ignore[arg-type]
    assert found["vqa"] == 0.0 and found["vqa_guess"] == 100.0
    assert shown == [{"question": "what color is it?", "said": "blue", "own": "red"}]
