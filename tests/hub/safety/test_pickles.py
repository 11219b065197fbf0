"""A pickle beside or instead of the weights never runs, in whatever form and under whatever name."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from vlkd_hub.errors import WeightsError
from vlkd_hub.inference import TorchStudent

from .canary import PICKLES, Canary

PLACES = (
    "pytorch_model.bin",
    "model.bin",
    "model.pt",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "scaler.pt",
    "training_args.bin",
    "tokenizer.pkl",
    "adapter_model.bin",
    "tf_model.h5",
    "flax_model.msgpack",
)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file that a payload makes."""
    return tmp_path / "ran"


@pytest.fixture
def copy(tiny_student: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_student, tmp_path / "student")
    return tmp_path / "student"


@pytest.mark.parametrize("form", PICKLES)
def test_the_payload_would_run(form: str, ran: Path) -> None:
    """Else every test below would pass on a dud."""
    content = PICKLES[form](Canary(ran))
    if form == "pickle":
        pickle.loads(content)["weight"].close()
    else:
        torch.load(io.BytesIO(content), weights_only=False)["weight"].close()
    assert ran.exists()


@pytest.mark.parametrize("form", PICKLES)
def test_beside_the_weights(form: str, copy: Path, ran: Path) -> None:
    """The student loads, and nobody looks at the rest."""
    for name in PLACES:
        (copy / name).write_bytes(PICKLES[form](Canary(ran)))
    TorchStudent.from_pretrained(copy)
    assert not ran.exists()


@pytest.mark.parametrize("form", PICKLES)
def test_instead_of_the_weights(form: str, copy: Path, ran: Path) -> None:
    """Not even tried: the error names the file and says why."""
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(PICKLES[form](Canary(ran)))
    with pytest.raises(WeightsError, match="pytorch_model.bin may hold a pickle"):
        TorchStudent.from_pretrained(copy)
    assert not ran.exists()


@pytest.mark.parametrize("form", PICKLES)
def test_under_the_name_of_the_weights(form: str, copy: Path, ran: Path) -> None:
    (copy / "model.safetensors").write_bytes(PICKLES[form](Canary(ran)))
    with pytest.raises(WeightsError, match="model.safetensors is not a well-formed"):
        TorchStudent.from_pretrained(copy)
    assert not ran.exists()


@pytest.mark.parametrize("form", PICKLES)
def test_under_the_name_of_a_setting(form: str, copy: Path, ran: Path) -> None:
    """The processor's files are JSON; a pickle there is an error of some kind, and never runs."""
    for name in ("tokenizer.json", "processor_config.json"):
        (copy / name).write_bytes(PICKLES[form](Canary(ran)))
    with pytest.raises(Exception, match="JSON|UTF-8|utf-8|codec|value"):
        TorchStudent.from_pretrained(copy)
    assert not ran.exists()


@pytest.mark.parametrize("form", PICKLES)
def test_transformers_itself_does_not_run_it(form: str, copy: Path, ran: Path) -> None:
    """Somebody may load our folder without our runner: its reader must refuse too."""
    from vlkd_hub.models import VlkdForConditionalGeneration

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(PICKLES[form](Canary(ran)))
    with pytest.raises(Exception, match="(?i)weights_only|unpickl|weights"):
        VlkdForConditionalGeneration.from_pretrained(copy)
    assert not ran.exists()
