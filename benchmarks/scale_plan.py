"""What a run at the paper's size costs: operations of a step, counted; time and disk, from rates that you give.

    python benchmarks/scale_plan.py --steps 200000 --batch 576 --tflops 40 --gpus 8

Operations are counted by torch on tensors without data, so this needs no weights, no GPU and little memory. The rate
is what one GPU keeps up in training; nothing here measures it.
"""

from __future__ import annotations

import argparse
import json

import torch
from torch.utils.flop_counter import FlopCounterMode
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


def step_operations(batch: int, length: int) -> dict[str, float]:
    """Floating-point operations of one step on ``batch`` pairs with captions of ``length`` tokens."""
    with torch.device("meta"):
        model = student().train()
        teacher = CLIPTextModel(
            CLIPTextConfig(hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8)
        )
        ids = torch.zeros(batch, length, dtype=torch.long)
        pixels = torch.zeros(batch, 3, 224, 224)
    counted = {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tokens = model.vlkd.image_tokens(pixels)
    counted["image tower, forward"] = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        teacher(input_ids=ids)
    counted["teacher's text tower, forward"] = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        outputs = model(input_ids=ids, image_tokens=tokens, labels=ids, clean_input_ids=ids)
        (outputs.loss + outputs.text_embeds.sum()).backward()
    counted["student, forward and backward"] = counter.get_total_flops()
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=576, help="pairs a step, over all GPUs")
    parser.add_argument("--length", type=int, default=16, help="tokens of a caption, special ones included")
    parser.add_argument("--tflops", type=float, required=True, help="10^12 operations a second that one GPU keeps up")
    parser.add_argument("--gpus", type=int, default=8)
    arguments = parser.parse_args()
    counted = step_operations(8, arguments.length)
    a_pair = {name: value / 8 for name, value in counted.items()}
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
