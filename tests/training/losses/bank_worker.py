"""Three steps of the contrasts with banks and of a codebook, in one of several processes; run by test_bank_contrast.py.

Usage: bank_worker.py STORE RANK WORLD OUTPUT
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from vlkd_training.losses import BankContrastLoss, ContrastiveTargetLoss, ExampleBank, MemoryBank

BATCH, DIM, STEPS = 8, 6, 3


def codebook() -> Any:
    """``ImageCodebook`` from its file: importing the whole package of models would take longer than the test."""
    file = Path(__file__).resolve().parents[3] / "vlkd_hub" / "models" / "smke" / "image_codebook.py"
    spec = importlib.util.spec_from_file_location("image_codebook", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["image_codebook"] = module
    spec.loader.exec_module(module)
    return module.ImageCodebook(5, DIM, decay=0.5)


def main(store: str, rank: str, world: str, output: str) -> None:
    """Each process takes its share of the same batches; what it ends with is written to OUTPUT."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    number, count = int(rank), int(world)
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=count)
    share = slice(number * BATCH // count, (number + 1) * BATCH // count)
    heads = [nn.Linear(DIM, DIM, bias=False) for _ in range(2)]
    image_bank, text_bank, teacher_bank, examples = *(MemoryBank(11, DIM) for _ in range(3)), ExampleBank(6, DIM)
    contrast, target, book = BankContrastLoss(), ContrastiveTargetLoss(), codebook()
    found: dict[str, torch.Tensor] = {}
    for step in range(STEPS):
        inputs = [torch.randn(BATCH, DIM)[share] for _ in range(3)]
        ids = torch.randint(0, 6, (BATCH,))[share]
        images, texts, teacher = heads[0](inputs[0]), heads[1](inputs[1]), inputs[2]
        banks = {"image_bank": image_bank.valid(), "text_bank": text_bank.valid()}
        loss = contrast(images, texts, torch.tensor(4.0), ids, **banks)
        parts = target(images, texts, teacher, teacher_bank.valid(), ids)
        (loss + sum(parts.values())).backward()
        found[f"loss {step}"] = loss.detach()
        found |= {f"loss {name} {step}": value.detach() for name, value in parts.items()}
        image_bank.push(images, ids)
        text_bank.push(texts, ids)
        teacher_bank.push(teacher, ids)
        examples.update(teacher, ids)
        book.start(teacher)
        book.update(teacher, book.choose(teacher))
    found |= {f"gradient {number}": head.weight.grad for number, head in enumerate(heads)}
    for name, module in (("pictures", image_bank), ("captions", text_bank), ("teacher", teacher_bank)):
        found |= {f"{name} {key}": value for key, value in module.state_dict().items()}
    found |= {f"examples {key}": value for key, value in examples.state_dict().items()}
    found |= {f"codebook {key}": value for key, value in book.state_dict().items()}
    torch.save(found, Path(output) / f"end-{rank}-of-{world}.pt")
    if count > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
