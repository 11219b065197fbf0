"""A contrast over the whole batch, whose backward pass runs in chunks: the same gradient, less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import default_collate

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_training.chunked import chunked_backward, split_batch
from vlkd_training.methods import AlignMethod, Method, TextInfillingMethod, VLKDMethod

from .toy import ROWS, AlignRows, Rows, make_trainer, parameters_of, without_dropout


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def whole(model: nn.Module, method: Method, batch: dict[str, Any]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    model.zero_grad()
    parts = method(model(**method.wanted(batch), **method.student_options), batch)
    torch.stack(list(parts.values())).sum().backward()
    return {name: value.item() for name, value in parts.items()}, gradients(model)


@pytest.mark.parametrize("size", [1, 3, ROWS])
@pytest.mark.parametrize("kind", ["vlkd", "align"])
def test_the_gradient_is_the_whole_batchs(tiny_student: Path, kind: str, size: int) -> None:
    """Every parameter, temperature included, to 1e-5; the last chunk may be smaller."""
    rows = AlignRows() if kind == "align" else Rows()
    method = AlignMethod() if kind == "align" else VLKDMethod(gamma=10.0)
    model = without_dropout(tiny_student, dual=kind == "align").train()
    batch = default_collate([rows[row] for row in range(ROWS)])
    parts, expected = whole(model, method, batch)
    model.zero_grad()
    found = chunked_backward(model, method, batch, size, backward=lambda loss: loss.backward())
    assert {name: float(value) for name, value in found.items()} == pytest.approx(parts, rel=1e-4)
    chunked = gradients(model)
    assert chunked.keys() == expected.keys()
    assert any("logit_scale" in name for name in chunked)
    for name, value in expected.items():
        torch.testing.assert_close(chunked[name], value, atol=1e-5, rtol=1e-4, msg=lambda text, n=name: n + text)


def test_dropout_is_the_same_in_both_passes(tiny_student: Path) -> None:
    """With other masks the second time, the gradient would belong to embeddings that were never compared."""
    model = VlkdForConditionalGeneration.from_pretrained(tiny_student).train()
    rows, method, seen = Rows(), VLKDMethod(gamma=10.0), []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.text_embeds.detach()))
    batch = default_collate([rows[row] for row in range(6)])
    chunked_backward(model, method, batch, 2, backward=lambda loss: loss.backward())
    assert len(seen) == 6
    for first, second in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(seen[0], model(**method.wanted(split_batch(batch, 2)[0][0])).text_embeds)


def test_a_step_in_chunks_is_made_ready_like_a_whole_one(tiny_student: Path, tmp_path: Path) -> None:
    """Frozen parts rest where that is asked for, and the method completes the batch, once."""
    seen: list[bool] = []
    prepared: list[int] = []

    class Preparing(VLKDMethod):
        def prepare(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
            prepared.append(len(batch["input_ids"]))
            return batch

    options: dict[str, Any] = {"rest_frozen": True, "freeze": ["vlkd.text_encoder"], "max_steps": 1}
    options |= {"per_device_train_batch_size": 4, "cached_contrastive_chunk": 2}
    trainer = make_trainer(tiny_student, tmp_path, method=Preparing(gamma=10.0), **options)
    trainer.model.vlkd.text_encoder.register_forward_hook(lambda module, *_: seen.append(module.training))
    trainer.train()
    assert prepared == [4]
    assert seen and not any(seen)


def test_the_frozen_tower_looks_once(tiny_student: Path, tmp_path: Path) -> None:
    """A chunk goes through the student twice, its pictures once through what never learns."""
    options: dict[str, Any] = {"max_steps": 1, "per_device_train_batch_size": 4, "cached_contrastive_chunk": 2}
    trainer = make_trainer(tiny_student, tmp_path, **options)
    looks: list[int] = []
    trainer.model.vlkd.vision_tower.register_forward_hook(lambda module, _, output: looks.append(len(output[0])))
    trainer.train()
    assert looks == [2, 2]


def test_the_trainer_steps_the_same(tiny_student: Path, tmp_path: Path) -> None:
    """As a training argument, with gradient accumulation on top: three steps end at the same weights."""
    options: dict[str, Any] = {"optim": "sgd", "learning_rate": 0.05, "per_device_train_batch_size": 4}
    options |= {"gradient_accumulation_steps": 2, "max_steps": 3}
    trainers = [
        make_trainer(
            tiny_student, tmp_path, model=without_dropout(tiny_student), cached_contrastive_chunk=size, **options
        )
        for size in (0, 2)
    ]
    logs = []
    for trainer in trainers:
        trainer.train()
        logs.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    expected = parameters_of(trainers[0])
    for name, value in parameters_of(trainers[1]).items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=0, msg=lambda text, n=name: n + text)


def test_a_method_without_a_contrast_is_refused(tiny_student: Path) -> None:
    with pytest.raises(RecipeError, match="TextInfillingMethod has none. Leave it out"):
        chunked_backward(nn.Identity(), TextInfillingMethod(), {}, 2, backward=lambda loss: None)


def test_what_is_not_a_row_goes_to_every_chunk() -> None:
    chunks, rows = split_batch({"ids": torch.arange(5), "task": "caption", "scale": torch.tensor(2.0)}, 2)
    assert rows == 5
    assert [chunk["ids"].tolist() for chunk in chunks] == [[0, 1], [2, 3], [4]]
    assert all(chunk["task"] == "caption" and chunk["scale"] == 2.0 for chunk in chunks)
