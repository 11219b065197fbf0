"""Self-critical training: samples that score above the greedy caption become likelier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vlkd_hub.errors import RecipeError
from vlkd_hub.inference import load_processor
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_training.data.collate import PictureSource
from vlkd_training.methods.scst import SCSTMethod, sequence_labels
from vlkd_training.phases import make_method
from vlkd_training.prompts import PromptCollator
from vlkd_training.recipe import Phase

PICTURES = 3


class Reward:
    """Scores a caption by how many words it shares with a target, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[int]]] = []

    def __call__(self, captions: Sequence[str], rows: Sequence[int]) -> np.ndarray:
        self.asked.append((list(captions), list(rows)))
        return np.array([caption.split().count("red") - 0.1 * len(caption.split()) for caption in captions])


@pytest.fixture
def student(tiny_student: Path) -> VlkdForConditionalGeneration:
    torch.manual_seed(0)
    return VlkdForConditionalGeneration.from_pretrained(tiny_student).train()


@pytest.fixture
def method(tiny_student: Path) -> SCSTMethod:
    return SCSTMethod(Reward(), load_processor(tiny_student), samples=2, max_new_tokens=5)


@pytest.fixture
def batch(tiny_student: Path) -> dict[str, Any]:
    processor = load_processor(tiny_student)
    tokens = np.random.default_rng(0).normal(size=(PICTURES, 5, 8)).astype(np.float16)
    rows = SimpleNamespace(images=list(range(PICTURES)))
    collate = PromptCollator(rows, processor.tokenizer, processor.build_prompt("caption"), PictureSource(tokens))
    return collate([2, 0, 1])


def test_the_batch_holds_prompts_pictures_and_rows(batch: dict[str, Any]) -> None:
    assert batch["row"].tolist() == [2, 0, 1]
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert len(batch["input_ids"].unique(dim=0)) == 1
    assert batch["image_tokens"].shape == (PICTURES, 5, 8)


def test_samples_are_scored_against_the_greedy_caption(
    student: VlkdForConditionalGeneration, method: SCSTMethod, batch: dict[str, Any]
) -> None:
    """Two samples a picture share one baseline, each scored against its own picture's references."""
    found = method.prepare(student, batch)
    (greedy, rows), (sampled, many) = method.reward.asked
    assert (rows, many) == ([2, 0, 1], [2, 2, 0, 0, 1, 1])
    assert (len(greedy), len(sampled)) == (PICTURES, 2 * PICTURES)
    baseline, score = Reward()(greedy, rows), Reward()(sampled, many)
    np.testing.assert_allclose(found["advantage"].numpy(), score - np.repeat(baseline, 2), atol=1e-6)
    assert found["input_ids"].shape[0] == found["image_tokens"].shape[0] == found["labels"].shape[0] == 2 * PICTURES
    assert student.training, "sampling must not leave the student in eval mode"
    texts = method._texts(found["labels"].clamp(min=0))
    assert texts == sampled, "the targets must be the very captions that were scored"


def test_samples_are_scored_against_each_other(
    student: VlkdForConditionalGeneration, tiny_student: Path, batch: dict[str, Any]
) -> None:
    """Each sample against the mean of the picture's others: what one picture wins another does not pay for."""
    method = SCSTMethod(Reward(), load_processor(tiny_student), samples=3, max_new_tokens=5, baseline="samples")
    found = method.prepare(student, batch)
    assert len(method.reward.asked) == 1, "no greedy caption is needed"
    score = Reward()(*method.reward.asked[0]).reshape(PICTURES, 3)
    for picture, row in enumerate(found["advantage"].numpy().reshape(PICTURES, 3)):
        others = [np.delete(score[picture], at).mean() for at in range(3)]
        np.testing.assert_allclose(row, score[picture] - others, atol=1e-6)


@pytest.mark.parametrize(("baseline", "samples"), [("sample", 4), ("samples", 1)])
def test_a_baseline_that_cannot_be(tiny_student: Path, baseline: str, samples: int) -> None:
    with pytest.raises(RecipeError, match=f"got '{baseline}' and {samples}"):
        SCSTMethod(Reward(), load_processor(tiny_student), samples=samples, baseline=baseline)


def test_the_gradient_raises_what_scored_better(
    student: VlkdForConditionalGeneration, method: SCSTMethod, batch: dict[str, Any]
) -> None:
    """One small step against the gradient: likelier where the advantage is positive, less likely where negative."""
    found = method.prepare(student, batch)
    found["advantage"] = torch.tensor([1.0, 0.0, -1.0, 0.0, 0.0, 0.0])
    student.eval()

    def log_likelihood() -> torch.Tensor:
        output = student(**{name: found[name] for name in ("input_ids", "attention_mask", "image_tokens", "labels")})
        labels = found["labels"]
        picked = output.logits.log_softmax(dim=-1).gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
        return (picked * (labels != -100)).sum(dim=1)

    before = log_likelihood().detach()
    loss = method(student(**method.wanted(found), **method.student_options), found)["scst"]
    assert loss.item() == pytest.approx(-(before[0] - before[2]).item() / len(before), rel=1e-4)
    loss.backward()
    with torch.no_grad():
        for value in student.parameters():
            if value.grad is not None:
                value -= 1e-2 * value.grad
    after = log_likelihood().detach()
    assert after[0] > before[0]
    assert after[2] < before[2]


def test_no_advantage_no_gradient(
    student: VlkdForConditionalGeneration, method: SCSTMethod, batch: dict[str, Any]
) -> None:
    found = method.prepare(student, batch)
    found["advantage"] = torch.zeros(2 * PICTURES)
    method(student(**method.wanted(found), **method.student_options), found)["scst"].backward()
    assert all(value.grad is None or not value.grad.any() for value in student.parameters())


def test_the_reward_rises_on_a_toy(
    student: VlkdForConditionalGeneration, method: SCSTMethod, batch: dict[str, Any]
) -> None:
    """Fifty steps of the real loop: the student learns to say the word that pays."""
    optimizer = torch.optim.Adam([value for value in student.parameters() if value.requires_grad], lr=1e-2)
    for _ in range(50):
        found = method.prepare(student, batch)
        optimizer.zero_grad()
        method(student(**method.wanted(found), **method.student_options), found)["scst"].backward()
        optimizer.step()
    scores = [np.mean(Reward()(*asked)) for asked in method.reward.asked[1::2]]
    assert np.mean(scores[-5:]) > np.mean(scores[:5]) + 0.3


def test_labels_end_with_the_first_end_token() -> None:
    """What generate() fills up with is no target; a caption that was cut off has no end."""
    ids = torch.tensor([[2, 7, 3, 0, 0], [2, 7, 8, 9, 3], [2, 7, 8, 9, 7], [2, 3, 3, 3, 3]])
    expected = [[7, 3, -100, -100], [7, 8, 9, 3], [7, 8, 9, 7], [3, -100, -100, -100]]
    assert sequence_labels(ids, 3, 0).tolist() == expected
    assert sequence_labels(ids, [3, 9], 0).tolist()[1] == [7, 8, 9, -100]
    padded_with_end = torch.tensor([[2, 7, 3, 3, 3]])
    assert sequence_labels(padded_with_end, 3, 3).tolist() == [[7, 3, -100, -100]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "scst needs temperature > 0 and samples >= 1"),
        ({"samples": 0}, "scst needs temperature > 0 and samples >= 1"),
        ({"baseline": "samples"}, "'samples' with two samples or more; got 'samples' and 1"),
        ({"baseline": "mean"}, "'greedy', or 'samples' with two samples or more; got 'mean'"),
    ],
)
def test_bad_options(tiny_student: Path, options: dict[str, Any], words: str) -> None:
    phase = Phase(method="scst", method_options=options)
    with pytest.raises(RecipeError, match=words):
        make_method(phase, reward=Reward(), processor=load_processor(tiny_student))
