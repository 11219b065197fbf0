"""What a run at the paper's size costs: operations of a step, counted; time and disk, from rates that you give.

    python benchmarks/scale_plan.py --steps 200000 --batch 576 --tflops 40 --gpus 8

Operations are counted from the parameters, so this needs no weights and no GPU. The rate is what one GPU keeps up in
training; nothing here measures it.
"""

from __future__ import annotations

import argparse
import json

import torch
from torch import nn
from transformers import BartConfig, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig

from vlkd_hub.models import VlkdConfig, VlkdForConditionalGeneration
from vlkd_hub.models.dual_encoder import VisionTowerConfig


def student() -> VlkdForConditionalGeneration:
    """The paper's ViT-B/16 student, on the meta device."""
    vision = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=224,
        patch_size=16,
    )
    tower = VisionTowerConfig(
        backbone_type="hf", backbone_config=vision.to_dict(), pool="cls", image_size=224, projection_dim=512
    )
    bart = BartConfig()  # its defaults are BART-large
    return VlkdForConditionalGeneration(
        VlkdConfig(vision_config=tower, text_encoder=bart, decoder=bart, projection_dim=512)
    )


def pair_operations(length: int) -> dict[str, float]:
    """Floating-point operations for one picture with a caption of ``length`` tokens.

    By the usual rule: 2 operations a weight and token forward, 4 more backward; attention between tokens, a few per
    cent at these lengths, is left out.
    """
    with torch.device("meta"):
        model = student()
        teacher = CLIPTextModel(
            CLIPTextConfig(hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8)
        )
    table = model.config.text_encoder.vocab_size * model.config.text_encoder.hidden_size
    patches = (224 // 16) ** 2 + 1
    encoder, decoder = weights(model.vlkd.text_encoder), weights(model.decoder)
    return {
        "image tower, forward": 2 * weights(model.vlkd.vision_tower) * patches,
        "teacher's text tower, forward": 2 * weights(teacher) * length,
        "student, forward and backward": 6 * length * (2 * encoder + decoder + table),  # whole and corrupted text
    }


def weights(module: nn.Module) -> int:
    """Parameters that every token meets: all but the tables that are looked up."""
    tables = {id(inner.weight) for inner in module.modules() if isinstance(inner, nn.Embedding)}
    return sum(value.numel() for value in module.parameters() if id(value) not in tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=576, help="pairs a step, over all GPUs")
    parser.add_argument("--length", type=int, default=16, help="tokens of a caption, special ones included")
    parser.add_argument("--tflops", type=float, required=True, help="10^12 operations a second that one GPU keeps up")
    parser.add_argument("--gpus", type=int, default=8)
    arguments = parser.parse_args()
    a_pair = pair_operations(arguments.length)
    live = sum(a_pair.values())
    cached = a_pair["student, forward and backward"]
    rate = arguments.tflops * 1e12
    report = {
        "gigaoperations_a_pair": {name: round(value / 1e9, 2) for name, value in a_pair.items()},
        "pairs": arguments.steps * arguments.batch,
        "gpu_hours_live": live * arguments.steps * arguments.batch / rate / 3600,
        "gpu_hours_cached": cached * arguments.steps * arguments.batch / rate / 3600,
    }
    report["days_live"] = report["gpu_hours_live"] / arguments.gpus / 24
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
