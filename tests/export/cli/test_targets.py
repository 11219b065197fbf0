"""``vlkd export --to tensorrt`` and ``--to triton`` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlkd_hub.cli import main
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.tensorrt import read_plan


def vlkd(*words: object) -> int:
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_triton_from_a_student(
    traced_before: Path, tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundle is made, compared with torch, and gone afterwards."""
    assert vlkd("export", tiny_student, "--to", "triton", "--output", tmp_path / "models", "--max-batch", 4) == 0
    assert "13 models for Triton" in capsys.readouterr().out
    assert "max_batch_size: 4" in (tmp_path / "models" / "caption" / "config.pbtxt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_tensorrt_without_tensorrt(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is missing is told at once; what can be made here is made with --no-build."""
    words = ("export", tiny_bundle, "--to", "tensorrt", "--output", tmp_path / "out", "--max-batch", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "tensorrt", None)
        assert vlkd(*words) == 2
        assert 'pip install "vlkd-hub[tensorrt]"' in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        assert vlkd(*words, "--no-build", "--json", tmp_path / "report.json") == 0
    assert "5 graphs for TensorRT in fp16" in capsys.readouterr().out
    assert read_plan(tmp_path / "out").profiles["image_encoder"]["pixel_values"].max[0] == 4
    assert json.loads((tmp_path / "report.json").read_text())["precision"] == "fp16"
    assert OnnxStudent.from_pretrained(tmp_path / "out").embed_texts(["one"]).shape[0] == 1


def test_tensorrt_with_a_stand_in(
    tiny_bundle: Path, tmp_path: Path, fake_gpu: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_gpu("11.4.0")
    words = ("export", tiny_bundle, "--to", "tensorrt", "--engine-precision", "fp32", "--max-batch", 4)
    assert vlkd(*words, "--output", tmp_path / "out") == 0
    assert "engine of decoder_next" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "engines").glob("*.engine"))) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "coreml"), "Unknown target"),
        (("--to", "triton", "--max-batch", 0), "--max-batch must be"),
        (("--to", "triton", "--triton-device", "tpu"), "Unknown device"),
        (("--to", "tensorrt", "--no-build", "--engine-precision", "int3"), "Unknown precision"),
    ],
)
def test_wrong_options_are_told(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], said: str
) -> None:
    assert vlkd("export", tiny_bundle, "--output", tmp_path / "out", *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
