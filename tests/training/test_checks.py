"""Each error says what came, why it matters, and what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPConfig, CLIPImageProcessor, CLIPModel

from vlkd_hub.errors import DataError, RecipeError, TrainingError, WeightsError
from vlkd_hub.inference import TorchStudent
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_training.build import load_teacher
from vlkd_training.checks import check_batches, check_finite, check_vocabulary
from vlkd_training.encoders import load_text_encoder, load_vision_backbone
from vlkd_training.finetune import load_student
from vlkd_training.methods import AlignMethod, TextInfillingMethod, VLKDMethod
from vlkd_training.phases import train_phase
from vlkd_training.recipe import Phase
from vlkd_training.rows import CaptionRows
from vlkd_training.teachers import TextTeacher

from .toy import Rows, make_trainer


def test_a_tokenizer_with_more_words_than_the_model(tiny_student: Path) -> None:
    model, processor = load_student(tiny_student)
    processor.tokenizer.add_tokens(["purple", "green"])
    with pytest.raises(
        RecipeError, match=r"knows \d+ words and the model's table has \d+ rows.*resize_token_embeddings"
    ):
        check_vocabulary(model, processor.tokenizer)


def test_a_tokenizer_of_another_model(tiny_student: Path) -> None:
    model, processor = load_student(tiny_student)
    processor.tokenizer.pad_token = "[UNK]"
    with pytest.raises(RecipeError, match="pads with id 1 and the model was made for 0; they do not belong together"):
        check_vocabulary(model, processor.tokenizer)


def test_missing_weights_are_not_left_random(tiny_student: Path, tmp_path: Path) -> None:
    model, processor = load_student(tiny_student)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["image_to_decoder.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for load in (load_student, TorchStudent.from_pretrained):
        with pytest.raises(WeightsError, match="lacks 1 of .* weights .*image_to_decoder.weight.*download it again"):
            load(tmp_path)


def test_a_teacher_and_an_encoder_with_holes(tmp_path: Path) -> None:
    """Their answers would be cached, and every student would learn from them."""
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    clip = CLIPConfig(text_config=small, vision_config=small | {"image_size": 32, "patch_size": 16}, projection_dim=8)
    for model, name, load in (
        (CLIPModel(clip), "text_projection.weight", load_teacher),
        (CLIPModel(clip), "visual_projection.weight", load_vision_backbone),
        (BertModel(BertConfig(**small)), "encoder.layer.0.output.dense.weight", load_text_encoder),
    ):
        weights = {key: value for key, value in model.state_dict().items() if key != name}
        model.save_pretrained(tmp_path / name, state_dict=weights)
        CLIPImageProcessor().save_pretrained(tmp_path / name)
        with pytest.raises(WeightsError, match=rf"lacks 1 of the model's weights \(the first: {name}\)"):
            load(str(tmp_path / name))


def test_an_empty_caption_names_its_picture() -> None:
    records = [SimpleNamespace(id="p1", captions=("a dog",)), SimpleNamespace(id="p2", captions=("  ",))]
    with pytest.raises(DataError, match="Picture 'p2' has an empty caption.*Delete"):
        CaptionRows(records)


def test_one_row_a_batch_under_a_contrast() -> None:
    """Two processes with one row each do have a contrast."""
    for method in (AlignMethod(), VLKDMethod()):
        with pytest.raises(RecipeError, match="per_device_train_batch_size is 1: a softmax over one candidate"):
            check_batches(method, Rows(), 1, 1)
        check_batches(method, Rows(), 1, 2)
    check_batches(TextInfillingMethod(), Rows(), 1, 1)


def test_fewer_rows_than_a_batch(tiny_student: Path, tmp_path: Path) -> None:
    """The last, partial batch is dropped; without this check a run would end at once and save an untrained student."""
    phase = Phase(method="vlkd", train={"per_device_train_batch_size": 100, "max_steps": 1})
    model = VlkdForConditionalGeneration.from_pretrained(tiny_student)
    with pytest.raises(RecipeError, match="There are 8 rows and a step takes 100.*Lower per_device_train_batch_size"):
        train_phase(phase, model, Rows(), None, tmp_path)


def test_a_teacher_that_is_no_number() -> None:
    values = np.ones((6, 2), np.float32)
    check_finite(values, "sentence vectors")
    values[4, 1] = np.nan
    with pytest.raises(DataError, match=r"sentence vectors hold NaN, .* in 1 rows, the first of them \[14\]"):
        check_finite(values, "sentence vectors", 10)
    with pytest.raises(DataError, match=r"the first of them \[7\]"):  # sorted by length: each row has its own number
        check_finite(values, "sentence vectors", [3, 1, 4, 0, 7, 5])


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_value_that_the_cache_cannot_hold(dtype: str) -> None:
    """70,000 is a number in fp32, infinite in fp16, and NaN in int8, whose scales are fp16."""
    values = np.array([[1.0], [-70_000.0]], np.float32)
    check_finite(values, "image features")
    with pytest.raises(DataError, match=rf"does not fit {dtype} in 1 rows, the first of them \[1\]"):
        check_finite(values, "image features", dtype=dtype)


def test_a_teacher_that_answers_nan_while_training() -> None:
    class Broken(torch.nn.Module):
        def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(pooler_output=torch.tensor([[1.0, 2.0], [float("nan"), 1.0]]))

    batch = {"teacher_input_ids": torch.zeros(2, 3), "teacher_attention_mask": torch.ones(2, 3)}
    with pytest.raises(TrainingError, match=r"NaN or infinity in rows \[1\]"):
        TextTeacher(Broken())(batch)


@pytest.mark.parametrize("value", [-3.0, float("nan")])
def test_a_temperature_that_blew_up(tiny_student: Path, tmp_path: Path, value: float) -> None:
    trainer = make_trainer(tiny_student, tmp_path)
    with torch.no_grad():
        trainer.model.vlkd.logit_scale.fill_(value)
    with pytest.raises(TrainingError, match=r"The temperature rose to .* at step 0.*freeze: \[vlkd.logit_scale\]"):
        trainer.train()
