"""A student sharded over two processes has the gradient of the whole one, and comes back whole. CPU, gloo.

accelerate starts FSDP on accelerators alone, so its config is parsed here and torch's own ``fully_shard`` does the
rest of what that config asks for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.data import default_collate

from vlkd_training.methods import VLKDMethod

from .toy import ROWS, Rows, without_dropout

WORKER = Path(__file__).with_name("shard_worker.py")
CONFIGS = sorted((Path(__file__).parents[2] / "training" / "recipes" / "accelerate").glob("*.yaml"))


def test_a_sharded_student(tiny_student: Path, tmp_path: Path) -> None:
    """The temperature is a scalar, which FSDP refuses: it travels as a vector of one and is a scalar again after."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(WORKER)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*line, str(tiny_student), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = torch.load(tmp_path / "end.pt", weights_only=True)
    assert found["same"] and found["tied"]
    model, rows, method = without_dropout(tiny_student), Rows(), VLKDMethod(gamma=10.0)
    assert found["temperature"] == pytest.approx(float(model.vlkd.logit_scale.detach()))
    batch = default_collate([rows[row] for row in range(ROWS)])
    parts = method(model(**method.wanted(batch), **method.student_options), batch)
    torch.stack(list(parts.values())).sum().backward()
    expected = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert found["grads"].keys() == expected.keys()
    for name, value in expected.items():
        theirs = found["grads"][name].reshape(value.shape)
        torch.testing.assert_close(theirs, value, atol=1e-5, rtol=1e-4, msg=lambda text, n=name: n + text)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_accelerate_reads_the_configs(file: Path) -> None:
    """Through accelerate's own reader, which refuses keys that it does not know."""
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    stated = yaml.safe_load(file.read_text())
    assert config.num_processes == stated["num_processes"]
    assert config.distributed_type.value == stated["distributed_type"]


def test_the_sharding_config_names_only_layers_that_the_student_has(tiny_student: Path) -> None:
    """accelerate refuses a class that the model lacks, so the config must fit a student with any text encoder."""
    stated = yaml.safe_load(next(file for file in CONFIGS if file.stem == "fsdp-8").read_text())["fsdp_config"]
    layers = set(stated["fsdp_transformer_layer_cls_to_wrap"].split(","))
    assert layers and layers <= {type(module).__name__ for module in without_dropout(tiny_student).modules()}
