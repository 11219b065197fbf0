"""The trainer: what is logged, what is refused, what moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vlkd_hub.errors import RecipeError, TrainingError
from vlkd_training.methods import Method, VLKDMethod
from vlkd_training.trainer import DistillationArguments

from .toy import make_trainer, parameters_of


def test_parts_are_logged_and_only_what_may_move_moves(tiny_student: Path, tmp_path: Path) -> None:
    """The loss is the sum of its named parts; the image tower (buffers too) and what is frozen stay bit for bit."""
    frozen = "vlkd.text_encoder.embeddings.position_embeddings"
    trainer = make_trainer(tiny_student, tmp_path, freeze=[frozen])
    before = parameters_of(trainer)
    tower = {name: value.clone() for name, value in trainer.model.vlkd.vision_tower.state_dict().items()}
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == 3
    for entry in steps:
        parts = {name: value for name, value in entry.items() if name.startswith("loss/")}
        assert set(parts) == {"loss/ttdm", "loss/itcl", "loss/icti"}
        assert sum(parts.values()) == pytest.approx(entry["loss"], rel=1e-3)
        assert entry["temperature"] == pytest.approx(0.07, abs=0.01)
    after = trainer.model.vlkd.vision_tower.state_dict()
    assert [name for name, value in tower.items() if not torch.equal(value, after[name])] == []
    for name, value in trainer.model.named_parameters():
        if name.startswith(frozen):
            assert torch.equal(value, before[name])
        if name in ("text_to_decoder.weight", "image_to_decoder.weight", "vlkd.text_projection.weight"):
            assert not torch.equal(value, before[name]), name


def test_parts_average_over_the_batches_that_had_them(tiny_student: Path, tmp_path: Path) -> None:
    """Batches of one task lack the other tasks' parts; a mean over all steps would shrink every one of them."""

    class Alternating(Method):
        student_inputs = ("input_ids", "attention_mask", "labels")

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            self.calls += 1
            name, value = ("lm_vqa", 6.0) if self.calls == 3 else ("lm_caption", 2.0)
            return {name: outputs.loss * 0 + value}

    trainer = make_trainer(tiny_student, tmp_path, method=Alternating(), logging_steps=3)
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert entry["loss/lm_caption"] == pytest.approx(2.0)
    assert entry["loss/lm_vqa"] == pytest.approx(6.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_part_that_is_not_finite_is_named(tiny_student: Path, tmp_path: Path, value: float) -> None:
    class Broken(VLKDMethod):
        def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            parts = super().forward(outputs, batch)
            return parts | {"itcl": parts["itcl"] * value}

    trainer = make_trainer(tiny_student, tmp_path, method=Broken())
    with pytest.raises(TrainingError, match=f"loss part 'itcl' became {value} at step 0"):
        trainer.train()


@pytest.mark.parametrize("rest", [True, False])
def test_what_is_frozen_may_rest_while_what_learns_drops_out(tiny_student: Path, tmp_path: Path, rest: bool) -> None:
    trainer = make_trainer(tiny_student, tmp_path, freeze=["vlkd.text_encoder"], rest_frozen=rest)
    modes: list[tuple[bool, bool]] = []
    encoder, decoder = trainer.model.vlkd.text_encoder, trainer.model.decoder
    encoder.register_forward_pre_hook(lambda *_: modes.append((encoder.training, decoder.training)))
    trainer.train()
    assert set(modes) == {(not rest, True)}


def test_a_freeze_prefix_that_names_nothing_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    """A typo would otherwise train what should stay fixed."""
    with pytest.raises(RecipeError, match=r"no parameter starts with 'vlkd.text_encodr'.*'decoder'.*'vlkd'"):
        make_trainer(tiny_student, tmp_path, freeze=["vlkd.text_encodr"])


def test_max_logit_scale_is_checked(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must exceed 1, got 0.5"):
        DistillationArguments(output_dir=str(tmp_path), use_cpu=True, max_logit_scale=0.5)


def test_learning_rate_multipliers_make_groups(tiny_student: Path, tmp_path: Path) -> None:
    """The longest prefix wins, every trainable parameter is in one group, and norms and biases do not decay."""
    factors = {"decoder": 5.0, "decoder.layers.1": 7.0}
    trainer = make_trainer(tiny_student, tmp_path, lr_multipliers=factors, weight_decay=0.1)
    optimizer = trainer.create_optimizer()
    rate = {id(item): group["lr"] for group in optimizer.param_groups for item in group["params"]}
    decay = {id(item): group["weight_decay"] for group in optimizer.param_groups for item in group["params"]}
    named = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(named) == len(rate)
    for name, value in named.items():
        factor = 7.0 if name.startswith("decoder.layers.1") else 5.0 if name.startswith("decoder") else 1.0
        assert rate[id(value)] == pytest.approx(1e-2 * factor), name
    assert decay[id(named["decoder.layers.1.fc1.weight"])] == 0.1
    assert decay[id(named["decoder.layers.1.fc1.bias"])] == 0.0
    assert decay[id(named["decoder.layers.1.final_layer_norm.weight"])] == 0.0


def test_the_temperature_is_clipped(tiny_student: Path, tmp_path: Path) -> None:
    """Clipped before the forward pass: the loss itself must see the clipped scale."""
    seen = []

    class Watching(VLKDMethod):
        def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            seen.append(float(outputs.logit_scale.detach()))
            return super().forward(outputs, batch)

    trainer = make_trainer(tiny_student, tmp_path, method=Watching(gamma=0.0), max_logit_scale=20.0)
    with torch.no_grad():
        trainer.model.vlkd.logit_scale.fill_(9.0)
    trainer.train()
    assert seen[0] == pytest.approx(20.0, rel=1e-4)
    assert max(seen) <= 20.0 * (1 + 1e-4)
