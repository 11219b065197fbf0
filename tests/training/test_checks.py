"""Each error says what came, why it matters, and what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vlkd_hub.errors import DataError, RecipeError, TrainingError
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_training.checks import check_batches, check_finite, check_vocabulary
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
    with pytest.raises(DataError, match="lacks 1 of the model's weights .*image_to_decoder.weight.*download it again"):
        load_student(tmp_path)


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
    with pytest.raises(DataError, match=r"sentence vectors hold NaN or infinity in 1 rows, the first of them \[14\]"):
        check_finite(values, "sentence vectors", first_row=10)


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
