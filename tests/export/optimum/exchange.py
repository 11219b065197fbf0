"""What stands before and after ``run_in_own_environment.py``, on transformers 5: ``exchange.py write|check FOLDER``.

``write`` saves a small student and a small teacher and what they answer; ``check`` loads the student that transformers
4.57 saved again, and asks it the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import BartConfig, BertConfig

from vlkd_hub.models import DualEncoderConfig, DualEncoderModel, VlkdConfig, VlkdForConditionalGeneration
from vlkd_hub.models.vlkd import VisionTowerConfig

NARROW = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
VISION = {
    "backbone_type": "hf",
    "backbone_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    },
    "pool": "cls",
    "image_size": 32,
    "projection_dim": 8,
}


def models() -> tuple[VlkdForConditionalGeneration, DualEncoderModel]:
    """A student and a teacher of a few thousand weights."""
    torch.manual_seed(0)
    decoder = BartConfig(
        vocab_size=30,
        d_model=16,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    student = VlkdConfig(
        vision_config=VisionTowerConfig(**VISION),
        text_encoder=BertConfig(**NARROW),
        decoder=decoder,
        projection_dim=8,
        image_features="all_tokens",
    )
    teacher = DualEncoderConfig(vision_config=VISION, text_config={"model_type": "bert"} | NARROW, projection_dim=8)
    return VlkdForConditionalGeneration(student).eval(), DualEncoderModel(teacher).eval()


@torch.no_grad()
def answers(student: VlkdForConditionalGeneration) -> dict[str, np.ndarray]:
    """Vectors, logits and words of the student for one fixed batch."""
    random = np.random.RandomState(0)
    pixels = torch.from_numpy(random.rand(2, 3, 32, 32).astype(np.float32))
    ids = torch.from_numpy(random.randint(5, 30, (2, 6)))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    inputs = {"attention_mask": mask, "pixel_values": pixels}
    found = {
        "pixel_values": pixels,
        "input_ids": ids,
        "attention_mask": mask,
        "image_embeds": student.encode_image(pixels)[0],
        "text_embeds": student.encode_text(ids, mask)[0],
        "logits": student(input_ids=ids, decoder_input_ids=ids, **inputs).logits,
    }
    for beams in (1, 2):
        options = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False}
        found[f"written_{beams}"] = student.generate(ids, **inputs, **options)
    return {name: value.numpy() for name, value in found.items()}


def write(folder: Path) -> None:
    student, teacher = models()
    student.save_pretrained(folder / "student")
    teacher.save_pretrained(folder / "teacher")
    found = answers(student)
    inputs = {name: torch.from_numpy(found[name]) for name in ("pixel_values", "input_ids", "attention_mask")}
    with torch.no_grad():
        found["teacher_scores"] = teacher(**inputs).logits_per_image.numpy()
    np.savez(folder / "answers.npz", **found)


def check(folder: Path) -> None:
    expected = dict(np.load(folder / "answers.npz"))
    student, info = VlkdForConditionalGeneration.from_pretrained(folder / "saved-by-4", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    for name, found in answers(student.eval()).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-5, err_msg=name)
    print(f"transformers {transformers.__version__} reads what 4.57 saved: {len(expected)} tensors equal; 1 passed")


if __name__ == "__main__":
    assert int(transformers.__version__.split(".")[0]) >= 5, "run this on transformers 5"
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
