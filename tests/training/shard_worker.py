"""Shards the toy student over the processes that torchrun started; run by test_sharding.py. Usage: STUDENT OUTPUT"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import default_collate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.toy import Rows, without_dropout

from vlkd_training.methods import VLKDMethod
from vlkd_training.sharding import full_value, to_scalars, to_vectors, unshard


def main(student: str, output: str) -> None:
    """One backward pass of a sharded student on 4 rows a process; then the whole parameters and gradients again."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    model = without_dropout(Path(student))
    scalars = {name for name, value in model.named_parameters() if value.dim() == 0}
    begin = {name: value.detach().clone() for name, value in model.named_parameters()}
    to_vectors(model)
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.decoder.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    rows, method = Rows(), VLKDMethod(gamma=10.0)
    batch = default_collate([rows[row] for row in range(4 * dist.get_rank(), 4 * dist.get_rank() + 4)])
    parts = method(model(**method.wanted(batch), **method.student_options), batch)
    sum(parts.values()).backward()
    grads = {n: v.grad.full_tensor() for n, v in model.named_parameters() if v.grad is not None}
    temperature = full_value(model.vlkd.logit_scale)
    unshard(model)
    to_scalars(model, scalars)
    tied = model.lm_head.weight is model.decoder.embed_tokens.weight
    same = all(torch.equal(value.detach(), begin[name]) for name, value in model.named_parameters())
    if dist.get_rank() == 0:
        torch.save({"grads": grads, "temperature": temperature, "tied": tied, "same": same}, Path(output) / "end.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
