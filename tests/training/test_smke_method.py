"""S-SMKE's method: which tensors reach which loss, what is remembered, and that all of it survives a break."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from vlkd_hub.errors import RecipeError, TrainingError
from vlkd_training.methods import SmkeMethod

from .toy import run_state
from .toy_smke import CLASSES, ROWS, VARIANTS, WIDTH, SmkeRows, smke_student, smke_trainer

WIDTHS = {"widths": (24, WIDTH, CLASSES)}


def batch_of(count: int = ROWS) -> dict[str, torch.Tensor]:
    return {name: values[:count] for name, values in SmkeRows().entries.items()}


def parts_of(method: SmkeMethod, **fields: Any) -> tuple[dict[str, torch.Tensor], Any, dict[str, torch.Tensor]]:
    model, batch = smke_student(**fields).eval(), batch_of()
    batch = method.prepare(model, batch)
    outputs = model(**method.wanted(batch), **method.student_options)
    return method(outputs, batch), outputs, batch


def contrast(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """By hand, with another caption of the same picture left out."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    logits[0, 1] = logits[1, 0] = -torch.inf
    own = torch.arange(ROWS)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@pytest.mark.parametrize(("fields", "layers"), [({"shared": "mlp"}, (1, 2, 3)), ({}, (1, 2))])
def test_shre_is_equation_48(fields: dict, layers: tuple[int, ...]) -> None:
    """KL to the teacher's classes plus the mean contrast of the layers, each part recomputed from the outputs."""
    parts, out, batch = parts_of(SmkeMethod("classes", layers=layers, **WIDTHS), **fields)
    p = batch["teacher_logits"].softmax(dim=-1)
    for name, logits in (("kd_image", out.image_layer3), ("kd_text", out.text_layer3)):
        kl = (p * (p.log() - logits.log_softmax(dim=-1))).sum(dim=-1).mean()
        torch.testing.assert_close(parts[name], kl / 2)
    expected = torch.stack(
        [
            contrast(getattr(out, f"image_layer{n}"), getattr(out, f"text_layer{n}"), out.logit_scale[at])
            for at, n in enumerate(layers)
        ]
    )
    torch.testing.assert_close(parts["itc"], expected.mean())
    assert set(parts) == {"itc", "kd_image", "kd_text"}


def test_targets_and_weights() -> None:
    """Each target reads its own entry of the batch; weights are applied once."""
    parts, out, batch = parts_of(SmkeMethod("cls", target_weight=3.0, contrast_weight=0.0, **WIDTHS))
    assert set(parts) == {"kd_image", "kd_text"}
    torch.testing.assert_close(parts["kd_text"], 1.5 * (out.text_layer3 - batch["teacher_cls"]).pow(2).mean())
    parts, out, batch = parts_of(SmkeMethod("codes", **WIDTHS))
    torch.testing.assert_close(parts["kd_image"], F.cross_entropy(out.image_layer3, batch["teacher_codes"]) / 2)
    parts, _, _ = parts_of(SmkeMethod("none", **WIDTHS))
    assert set(parts) == {"itc"}


def test_matching_labels_the_first_third() -> None:
    """The model gives B true pairs and then 2B wrong ones."""
    torch.manual_seed(0)
    parts, out, _ = parts_of(SmkeMethod("cls", matching="random", **WIDTHS), itm_size=6)
    labels = torch.tensor([1] * ROWS + [0] * 2 * ROWS)
    both = [F.cross_entropy(logits, labels) for logits in (out.itm_logits1, out.itm_logits2)]
    torch.testing.assert_close(parts["itm"], torch.stack(both).mean())


def test_the_queue_holds_earlier_batches_only() -> None:
    """The first loss has no bank; afterwards each bank holds the batch just seen, of its own modality and layer."""
    method = SmkeMethod("cls", bank=ROWS, **WIDTHS)
    parts, out, batch = parts_of(method)
    plain, _, _ = parts_of(SmkeMethod("cls", **WIDTHS))
    torch.testing.assert_close(parts["itc"], plain["itc"])
    for kind in ("image", "text"):
        for layer in (1, 2):
            rows, ids = method.banks[f"{kind}{layer}"].valid()
            torch.testing.assert_close(rows, getattr(out, f"{kind}_layer{layer}").detach())
            assert torch.equal(ids, batch["image_ids"])
    again, _, _ = parts_of(method)
    same = batch["image_ids"].unsqueeze(1) == batch["image_ids"]
    expected = []
    for at, layer in enumerate((1, 2)):
        image, text = (F.normalize(getattr(out, f"{kind}_layer{layer}"), dim=-1) for kind in ("image", "text"))
        for one, other in ((image, text), (text, image)):
            logits = out.logit_scale[at] * one @ torch.cat([other, other]).T  # the bank holds the same vectors
            left_out = torch.cat([same & ~torch.eye(ROWS, dtype=torch.bool), same], dim=1)
            expected.append(F.cross_entropy(logits.masked_fill(left_out, -torch.inf), torch.arange(ROWS)))
    torch.testing.assert_close(again["itc"], torch.stack(expected).mean())


def test_the_momentum_encoder_moves_before_the_student_sees_the_batch() -> None:
    """Equation (70); it fills the banks, and its own vectors are the candidates of the batch."""
    method, model, batch = SmkeMethod("cls", bank=4, momentum=0.5, layers=(2,), **WIDTHS), smke_student(), batch_of()
    model.config.contrast_layers = [2]
    method.prepare(model, batch)
    start = {name: value.clone() for name, value in method.momentum.averages().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    filled = method.prepare(model, batch)
    for name, value in model.named_parameters():
        torch.testing.assert_close(method.momentum.averages()[name], 0.5 * start[name] + 0.5 * value)
    assert not filled["momentum_image2"].requires_grad
    outputs = model(**method.wanted(batch))
    assert (filled["momentum_text2"] - outputs.text_layer2).abs().max() > 1e-3
    method(outputs, filled)
    for kind in ("image", "text"):
        torch.testing.assert_close(method.banks[f"{kind}2"].valid()[0], filled[f"momentum_{kind}2"][-4:])


def test_the_proximal_term_is_equation_69() -> None:
    """Nothing at the first visit; at the second, lambda times how far each unit vector has moved from its slot."""
    method = SmkeMethod("cls", bank=3, proximal=30.0, examples=ROWS, **WIDTHS)
    model, batch = smke_student().eval(), batch_of()
    first = model(**method.wanted(batch))
    assert method(first, batch)["proximal"] == 0
    with torch.no_grad():
        for parameter in model.shared_encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    second = model(**method.wanted(batch))
    moved = [
        (F.normalize(getattr(second, name), dim=-1) - F.normalize(getattr(first, name), dim=-1)).pow(2).sum(-1).mean()
        for name in ("image_layer1", "image_layer2", "text_layer1", "text_layer2")
    ]
    torch.testing.assert_close(method(second, batch)["proximal"], 30 * torch.stack(moved).mean())
    rows, pictures = method._negatives("text2")
    assert rows.shape == (3, WIDTH) and set(pictures.tolist()) <= set(batch["image_ids"].tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "logits"}, "target must be one of"),
        ({"matching": "easy"}, "matching must be one of"),
        ({"bank": 4, "contrast": "ranking"}, "set contrast: layers"),
        ({"target_bank": 4, "target": "cls"}, "target: contrastive"),
        ({"bank": -1}, "0 entries or more"),
        ({"proximal": 30.0}, "proximal needs bank > 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    """Else a run would silently train something else."""
    with pytest.raises(RecipeError, match=message):
        SmkeMethod(**options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_step_of_every_variant(variant: str, tmp_path: Path) -> None:
    """A finite loss, and a gradient in every part of the model that the variant trains."""
    trainer = smke_trainer(variant, tmp_path, max_steps=2)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert all(torch.isfinite(torch.tensor(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry)
    still = {name for name, value in trainer.model.named_parameters() if torch.equal(value, before[name])}
    assert not {name for name in still if name.startswith(("shared_encoder", "matching", "cmli", "logit_scale"))} or (
        variant == "shre-ranking" and still == {"logit_scale"}
    )


@pytest.mark.parametrize("variant", ["fifo", "momentum", "contrastive-bank", "proximal"])
def test_banks_and_momentum_survive_a_break_to_the_bit(variant: str, tmp_path: Path) -> None:
    """Dropout on, saved in the middle of an epoch: the resumed run is the unbroken one, banks and averages included."""
    options = {"max_steps": 5, "save_strategy": "steps", "save_steps": 3, "per_device_train_batch_size": 2}
    unbroken = smke_trainer(variant, tmp_path / "a", dropout=0.2, **options)
    unbroken.train()
    shutil.copytree(tmp_path / "a" / "checkpoint-3", tmp_path / "b" / "checkpoint-3")
    resumed = smke_trainer(variant, tmp_path / "b", dropout=0.2, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-3"))
    one, other = run_state(unbroken), run_state(resumed)
    assert any(name.startswith("method ") for name in one)
    assert one.keys() == other.keys()
    changed = [
        name
        for name, value in one.items()
        if not (torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name])
    ]
    assert changed == []


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """transformers saves a ViT under the names of older versions and does not find them again when it resumes."""
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = smke_trainer("cls", tmp_path, **options)
    trainer.train()
    folder = tmp_path / "checkpoint-1"
    trainer.model.save_pretrained(folder)
    with pytest.raises(TrainingError, match="lacks .* weights.*image_encoder.backbone"):
        smke_trainer("cls", tmp_path, **options).train(resume_from_checkpoint=str(folder))


def test_a_chunked_contrast_is_the_whole_one(tmp_path: Path) -> None:
    """S-SMKE without banks compares rows only in its contrast, so the batch may pass the student in pieces."""
    whole = smke_trainer("cls", tmp_path / "a", max_steps=2, optim="sgd")
    whole.train()
    pieces = smke_trainer("cls", tmp_path / "b", max_steps=2, optim="sgd", cached_contrastive_chunk=2)
    pieces.train()
    for (name, one), other in zip(whole.model.named_parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
