"""Methods: which tensors reach which loss, under which name and weight."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vlkd_training.losses import ITCLLoss
from vlkd_training.methods import AlignMethod, Method, TextInfillingMethod, VLKDFinetuneMethod, VLKDMethod

TEXTS, DIM, VOCAB = 3, 8, 20
LABELS = torch.tensor([[4, 5, 6], [7, 8, -100], [9, -100, -100]])
COUNT = 6


@pytest.fixture
def outputs(seeded: None) -> SimpleNamespace:
    image, text = (nn.functional.normalize(torch.randn(TEXTS, DIM), dim=-1) for _ in range(2))
    return SimpleNamespace(
        logits=torch.randn(COUNT, VOCAB), image_embeds=image, text_embeds=text, logit_scale=torch.tensor(14.3)
    )


@pytest.fixture
def batch(outputs: SimpleNamespace) -> dict:
    teacher = nn.functional.normalize(torch.randn(TEXTS, DIM), dim=-1)
    return {"teacher_text_embeds": teacher, "labels": LABELS, "image_ids": torch.arange(TEXTS), "task": "caption"}


def negative_log_likelihood(logits: torch.Tensor) -> float:
    log_p = logits.log_softmax(dim=-1)
    return -sum(log_p[row, label].item() for row, label in enumerate(LABELS[LABELS != -100].tolist()))


def test_vlkd_sums_three_weighted_parts(outputs: SimpleNamespace, batch: dict) -> None:
    """Section 3.2: gamma on TTDM alone; each part recomputed by hand, in the paper's own normalisation."""
    parts = VLKDMethod(gamma=50.0, itcl_weight=2.0, icti_weight=3.0)(outputs, batch)
    distance = (outputs.text_embeds - batch["teacher_text_embeds"]).square().sum(dim=-1).mean().item()
    scores = outputs.logit_scale * outputs.image_embeds @ outputs.text_embeds.t()
    diagonal = [scores.log_softmax(dim=axis).diagonal().mean().item() for axis in (0, 1)]
    contrast = -sum(diagonal) / 2
    assert list(parts) == ["ttdm", "itcl", "icti"]
    assert parts["ttdm"].item() == pytest.approx(50.0 * distance, rel=1e-5)
    assert parts["itcl"].item() == pytest.approx(2.0 * contrast, rel=1e-5)
    assert parts["icti"].item() == pytest.approx(3.0 * negative_log_likelihood(outputs.logits) / TEXTS, rel=1e-5)


def test_vlkd_defaults_are_the_papers() -> None:
    method = VLKDMethod()
    assert (method.gamma, method.itcl_weight, method.icti_weight) == (1000.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("weight", "left"),
    [("gamma", ["itcl", "icti"]), ("itcl_weight", ["ttdm", "icti"]), ("icti_weight", ["ttdm", "itcl"])],
)
def test_a_weight_of_zero_leaves_the_part_out(outputs: SimpleNamespace, batch: dict, weight: str, left: list) -> None:
    """Table 7's ablations; a part that is left out needs none of its inputs."""
    if weight == "gamma":
        del batch["teacher_text_embeds"]
    if weight == "itcl_weight":
        outputs.image_embeds = outputs.logit_scale = None
    if weight == "icti_weight":
        outputs.logits = None
    assert list(VLKDMethod(**{weight: 0.0})(outputs, batch)) == left


@pytest.mark.parametrize("task", ["caption", "vqa"])
def test_finetuning_names_its_task(outputs: SimpleNamespace, batch: dict, task: str) -> None:
    """Per token, not per text: a long caption would otherwise outweigh an answer."""
    parts = VLKDFinetuneMethod()(outputs, batch | {"task": task})
    assert list(parts) == [f"lm_{task}"]
    assert parts[f"lm_{task}"].item() == pytest.approx(negative_log_likelihood(outputs.logits) / COUNT, rel=1e-5)


def test_finetuning_keeps_the_text_side_where_asked(outputs: SimpleNamespace, batch: dict) -> None:
    one, two = (VLKDFinetuneMethod(ttdm_weight=weight)(outputs, batch) for weight in (1.0, 20.0))
    assert list(two) == ["lm_caption", "ttdm"]
    assert two["ttdm"].item() == pytest.approx(20.0 * one["ttdm"].item())
    distance = (outputs.text_embeds - batch["teacher_text_embeds"]).square().sum(dim=-1).mean().item()
    assert one["ttdm"].item() == pytest.approx(distance, rel=1e-5)


def test_finetuning_smooths_labels(outputs: SimpleNamespace, batch: dict) -> None:
    """Share s of the target is spread over the vocabulary: (1 - s) NLL + s times the mean over all words."""
    found = VLKDFinetuneMethod(label_smoothing=0.1)(outputs, batch)["lm_caption"].item()
    uniform = -outputs.logits.log_softmax(dim=-1).mean().item()
    expected = 0.9 * negative_log_likelihood(outputs.logits) / COUNT + 0.1 * uniform
    assert found == pytest.approx(expected, rel=1e-5)


def test_text_infilling_needs_no_picture(outputs: SimpleNamespace) -> None:
    method = TextInfillingMethod()
    assert not any("pixel" in name or "image" in name for name in method.student_inputs)
    parts = method(SimpleNamespace(logits=outputs.logits), {"labels": LABELS})
    assert list(parts) == ["infilling"]
    assert parts["infilling"].item() == pytest.approx(negative_log_likelihood(outputs.logits) / COUNT, rel=1e-5)


def test_align_is_one_contrast(outputs: SimpleNamespace, batch: dict) -> None:
    """The scale arrives as 1 / temperature already; a second exponential would blow it up."""
    plain, smooth = (AlignMethod(label_smoothing=share)(outputs, batch) for share in (0.0, 0.2))
    assert list(plain) == ["itcl"]
    arguments = (outputs.image_embeds, outputs.text_embeds, torch.tensor(14.3), batch["image_ids"])
    torch.testing.assert_close(plain["itcl"], ITCLLoss()(*arguments))
    torch.testing.assert_close(smooth["itcl"], ITCLLoss(label_smoothing=0.2)(*arguments))
    assert smooth["itcl"] != plain["itcl"]


def test_align_leaves_captions_of_one_picture_out(outputs: SimpleNamespace, batch: dict) -> None:
    """Two captions of one picture are no negatives of each other."""
    shared = AlignMethod()(outputs, batch | {"image_ids": torch.tensor([0, 0, 1])})["itcl"]
    assert shared < AlignMethod()(outputs, batch)["itcl"]


def test_a_method_must_say_what_it_does() -> None:
    with pytest.raises(NotImplementedError, match="Method must say which tensors go to which loss"):
        Method()(None, {})
