"""A distillation step of open_clip on towers shaped as the scenes recipe's, to set beside `vlkd bench train`.

    pip install --target /somewhere --no-deps open_clip_torch ftfy wcwidth   # its own place; torch and timm are shared
    PYTHONPATH=/somewhere python benchmarks/open_clip_step.py --batch-size 64

open_clip runs the teacher in every step and learns by contrast and from the similarities that the teacher sees; it has
no cache of the teacher, no decoder and no captions to write. `--lock` freezes the student's image tower, as VLKD's is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import open_clip
import torch
from open_clip.loss import DistillClipLoss
from torch import nn

WORDS, LENGTH, SIDE = 30522, 16, 160


def make(layers: int) -> nn.Module:
    """EfficientNet-Lite0 and a text tower as wide as MiniLM."""
    vision = {"timm_model_name": "tf_efficientnet_lite0", "timm_model_pretrained": False, "image_size": SIDE}
    vision |= {"timm_pool": "avg", "timm_proj": "linear"}
    text = {"context_length": LENGTH, "vocab_size": WORDS, "width": 384, "heads": 12, "layers": layers}
    return open_clip.CustomTextCLIP(embed_dim=384, vision_cfg=vision, text_cfg=text, output_dict=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--lock", action="store_true", help="freeze the student's image tower")
    parser.add_argument("--bf16", action="store_true", help="autocast, as open_clip's --precision amp_bf16")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    teacher, student = make(6).eval().requires_grad_(False), make(3).train()
    if arguments.lock:
        student.lock_image_tower(freeze_bn_stats=True)
    trained = [value for value in student.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    loss_of = DistillClipLoss()
    wall, cpu = [], []
    for _ in range(arguments.steps + 2):
        images = torch.randn(arguments.batch_size, 3, SIDE, SIDE)
        texts = torch.randint(1, WORDS, (arguments.batch_size, LENGTH))
        start, used = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            ours = student(images, texts)
            with torch.no_grad():
                theirs = {f"dist_{name}": value for name, value in teacher(images, texts).items()}
        losses = loss_of(**ours, **theirs, output_dict=True)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            student.logit_scale.clamp_(0, 4.605)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    report = {
        "open_clip": open_clip.__version__,
        "batch_size": arguments.batch_size,
        "locked": arguments.lock,
        "bf16": arguments.bf16,
        "threads": torch.get_num_threads(),
        "step_wall_s": statistics.median(wall[2:]),
        "step_cpu_s": statistics.median(cpu[2:]),
        "load_average": os.getloadavg(),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
