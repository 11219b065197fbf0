"""Puts models together: the aligned teacher from two encoders, the student from its teacher."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, BartConfig, BartModel, CLIPImageProcessorPil, CLIPModel

from vlkd_hub.errors import RecipeError
from vlkd_hub.hub.folders import student_folder
from vlkd_hub.hub.loading import load_whole
from vlkd_hub.inference import load_processor
from vlkd_hub.models import (
    DualEncoderConfig,
    DualEncoderModel,
    DualEncoderProcessor,
    VlkdConfig,
    VlkdForConditionalGeneration,
    VlkdProcessor,
)
from vlkd_hub.models.dual_encoder import VisionTower, VisionTowerConfig

from .encoders import TextEncoder, load_text_encoder, load_vision_backbone
from .layer_choice import layer_stack
from .recipe import StudentSpec, TeacherSpec

__all__ = [
    "TEXT_START",
    "build_student",
    "build_teacher",
    "load_teacher",
    "make_image_processor",
    "solve_text_projection",
]


def build_teacher(spec: TeacherSpec) -> tuple[DualEncoderModel, DualEncoderProcessor]:
    """Make a dual encoder from pretrained towers and fresh projections."""
    backbone, text = load_vision_backbone(spec.vision), load_text_encoder(spec.text)
    tower = {
        "image_size": spec.image_size,
        **backbone.tower,
        **spec.tower,
        "projection_dim": spec.projection_dim,
    }
    config = DualEncoderConfig(
        vision_config=VisionTowerConfig(**tower),
        text_config=text.module.config,
        projection_dim=spec.projection_dim,
        text_dropout=spec.text_dropout,
    )
    model = DualEncoderModel(config)
    model.vision_tower.backbone.load_state_dict(backbone.module.state_dict())
    model.text_model.load_state_dict(text.module.state_dict())
    if (
        backbone.projection is not None
        and backbone.projection.weight.shape == model.vision_tower.projection.weight.shape
    ):
        model.vision_tower.projection.load_state_dict(backbone.projection.state_dict())
    size = config.vision_config.image_size
    processor = DualEncoderProcessor(
        make_image_processor(size, spec.resize, backbone.image_mean, backbone.image_std), _tokenizer(text)
    )
    return model, processor


def make_image_processor(size: int, resize: str, mean: list[float], std: list[float]) -> CLIPImageProcessorPil:
    """The one preprocessing of a student, with Pillow's resize.

    Raises:
        RecipeError: ``resize`` is neither ``"squash"`` nor ``"crop"``.
    """
    if resize not in ("squash", "crop"):
        raise RecipeError(f"resize must be 'squash' or 'crop', got {resize!r}.")
    squash = resize == "squash"
    return CLIPImageProcessorPil(
        size={"height": size, "width": size} if squash else {"shortest_edge": size},
        do_center_crop=not squash,
        crop_size={"height": size, "width": size},
        image_mean=mean,
        image_std=std,
    )


def _tokenizer(text: TextEncoder) -> Any:
    text.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    limit = getattr(text.module.config, "max_position_embeddings", 512)
    text.tokenizer.model_max_length = min(text.tokenizer.model_max_length, limit)
    return text.tokenizer


def load_teacher(path: str | Path) -> tuple[DualEncoderModel | CLIPModel, Any]:
    """Load a frozen teacher: what `vlkd align` wrote, or any CLIP.

    Raises:
        RecipeError: the folder holds another kind of model.
        WeightsError: weights are missing.
    """
    path = student_folder(path)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if config.model_type not in ("vlkd_dual_encoder", "clip"):
        raise RecipeError(
            f"{path} holds a {config.model_type!r} model. "
            "A VLKD teacher is a CLIP, or a dual encoder from `vlkd align`."
        )
    model = load_whole(AutoModel, path).eval().requires_grad_(False)
    return model, load_processor(path)


def build_student(
    spec: StudentSpec, teacher: DualEncoderModel | CLIPModel, teacher_processor: Any, tasks: dict[str, dict[str, Any]]
) -> tuple[VlkdForConditionalGeneration, VlkdProcessor]:
    """Make the student: the teacher's image tower, a text encoder, a decoder (section 3.1).

    A BART brings its own decoder; any other text encoder gets a BART-style one with random weights whose word table
    is the encoder's.
    """
    text = load_text_encoder(spec.text_encoder)
    tower = _tower_of(teacher)
    encoder_config = _cut_layers(text, spec.text_encoder_layers)
    bart = text.module if isinstance(text.module, BartModel) else None
    decoder = bart.config if bart is not None else _decoder_config(spec, text)
    width = tower.config.projection_dim
    scale = math.sqrt(width) if spec.visual_scale == "sqrt_dim" else float(spec.visual_scale)
    config = VlkdConfig(
        vision_config=tower.config,
        text_encoder=encoder_config,
        decoder=decoder,
        projection_dim=width,
        image_features=spec.image_features,
        visual_scale=scale,
    )
    student = VlkdForConditionalGeneration(config)
    student.vlkd.vision_tower.load_state_dict(tower.state_dict())
    if bart is None:
        student.vlkd.text_encoder.load_state_dict(text.module.state_dict())
    else:
        student.vlkd.text_encoder.load_state_dict(bart.encoder.state_dict())
        student.decoder.load_state_dict(bart.decoder.state_dict())
    student.tie_weights()
    invert_text_projection(student)
    processor = VlkdProcessor(teacher_processor.image_processor, _tokenizer(text))
    for task, changes in tasks.items():
        processor.tasks.setdefault(task, {}).update(changes)
    return student, processor


def _tower_of(teacher: DualEncoderModel | CLIPModel) -> VisionTower:
    """The teacher's image side as a :class:`VisionTower`."""
    if isinstance(teacher, DualEncoderModel):
        return teacher.vision_tower
    config = VisionTowerConfig(
        backbone_type="hf",
        backbone_name=None,
        backbone_config=teacher.config.vision_config.to_dict(),
        pool="cls",
        image_size=teacher.config.vision_config.image_size,
        projection_dim=teacher.config.projection_dim,
    )
    tower = VisionTower(config)
    tower.backbone.load_state_dict(teacher.vision_model.state_dict())
    tower.projection.load_state_dict(teacher.visual_projection.state_dict())
    return tower


def _cut_layers(text: TextEncoder, layers: int | None) -> Any:
    """Drop the upper layers of the encoder, in place; return its config."""
    config = text.module.config
    if layers is None:
        return config
    found = layer_stack(text.module)
    stack = found[1] if found is not None and isinstance(found[1], nn.ModuleList) else None
    if stack is None or layers > len(stack) or layers < 1:
        raise RecipeError(f"text_encoder_layers: {layers} of {config.num_hidden_layers} layers cannot be kept.")
    del stack[layers:]
    config.num_hidden_layers = layers
    return config


def _decoder_config(spec: StudentSpec, text: TextEncoder) -> BartConfig:
    tokenizer, hidden = text.tokenizer, text.module.config.hidden_size
    start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    values = {
        "d_model": hidden,
        "vocab_size": text.module.config.vocab_size,
        "max_position_embeddings": 128,
        "decoder_layers": 3,
        "decoder_attention_heads": max(1, hidden // 64),
        "decoder_ffn_dim": 4 * hidden,
        "encoder_layers": 1,
        "encoder_attention_heads": max(1, hidden // 64),
        "scale_embedding": False,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": start,
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "forced_eos_token_id": None,
    }
    return BartConfig(**(values | spec.decoder))


TEXT_START = "least squares towards a rotation"
"""How :func:`solve_text_projection` starts W_e; runs of another start are not taken for those of this one."""


@torch.no_grad()
def invert_text_projection(student: VlkdForConditionalGeneration) -> None:
    """Set W'_e to the pseudo-inverse of W_e; directions below a hundredth of the largest are left out.

    Source: 002_330011b7ef9ac362.txt, section 3.2.3, footnote 1; the threshold is ours.
    """
    inverse = torch.linalg.pinv(student.vlkd.text_projection.weight.double(), rtol=1e-2)
    student.text_to_decoder.weight.copy_(inverse)


@torch.no_grad()
def solve_text_projection(
    student: VlkdForConditionalGeneration, means: np.ndarray, teacher_vectors: np.ndarray, ridge: float = 0.1
) -> float:
    r"""Set W_e by least squares that leans towards a rotation, and W'_e to its pseudo-inverse.

    W_e = argmin sum_k || t_k - W_e e_k ||^2 + r || W_e - c Q ||^2 over the training texts, Q the rotation that brings
    the e_k closest to the t_k (Procrustes) and c its best scale; then both are divided by c, which no unit vector
    shows. With a random W_e the squared distance of unit vectors starts near 2, and gamma = 10^3 under gradient
    clipping takes very long to bring it down.

    Why the rotation: plain least squares leaves most directions of the encoder near zero. The pseudo-inverse blows
    those up again (singular values to 480 on scenes), and with them every step that W_e takes, so that after training
    W'_e W_e E is some thirty times as long as E and the decoder cannot read a question from it.

    Args:
        student: changed in place.
        means: mean encoder output of each text, shape ``(texts, d2)``.
        teacher_vectors: unit vectors of the same texts, shape ``(texts, d1)``.
        ridge: r as a part of the mean diagonal of sum e e^T.

    Returns:
        Mean cosine between W_e e and t after the solution.

    Source: 002_330011b7ef9ac362.txt, section 3.2.3, footnote 1 (pseudo-inverse); the start of W_e is ours.
    """
    inputs = torch.from_numpy(np.asarray(means)).double()
    targets = torch.from_numpy(np.asarray(teacher_vectors)).double()
    gram, cross = inputs.t() @ inputs, inputs.t() @ targets  # (d2, d2), (d2, d1)
    left, _, right = torch.linalg.svd(cross, full_matrices=False)
    rotation = left @ right
    scale = (cross * rotation).sum() / (rotation * (gram @ rotation)).sum()
    weight = ridge * gram.diagonal().mean()
    regular = gram + weight * torch.eye(gram.shape[0], dtype=gram.dtype)
    solution = torch.linalg.solve(regular, cross + weight * scale * rotation) / scale  # (d2, d1)
    student.vlkd.text_projection.weight.copy_(solution.t())
    invert_text_projection(student)
    fitted = nn.functional.normalize(inputs @ solution, dim=-1)
    return float((fitted * nn.functional.normalize(targets, dim=-1)).sum(dim=-1).mean())
