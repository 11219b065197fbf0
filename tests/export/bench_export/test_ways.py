"""The ways that are timed side by side compute the same thing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_export.bench_export import clip_tower
from vlkd_export.bench_export.clip_tower import VIT_B_32, export_clip_tower
from vlkd_export.bench_export.ways import ONNX_WAYS, Bench, measure, torch_ways
from vlkd_hub.cli import main
from vlkd_hub.runtime.providers import installed_providers

SMALL = VIT_B_32 | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"image_size": 64, "patch_size": 8, "projection_dim": 32}


def test_every_installed_way_is_timed_and_agrees(tmp_path: Path) -> None:
    """A way that computes something else would win for nothing."""
    tower, graph = export_clip_tower(tmp_path, SMALL)
    feeds = {batch: {"pixel_values": tower.pixels(batch)} for batch in (1, 3)}
    in_torch = torch_ways(lambda net, pixels: net(pixels), tower)
    bench = measure(graph, tmp_path, feeds, [feeds[3]], in_torch, threads=1, runs=2)
    here = installed_providers()
    wanted = {name for name, (method, place) in ONNX_WAYS.items() if here[place]}
    assert set(bench.ms[1]) == wanted | {"torch fp32", "torch bf16"} and bench.failed == {}
    assert bench.cosine["torch fp32"] > 0.99999
    assert min(bench.cosine.values()) > 0.95
    assert bench.bytes["onnxruntime int8 static"] < 0.45 * bench.bytes["onnxruntime fp32"]


def test_ratios_are_of_the_same_batch() -> None:
    """And empty where the reference was not measured."""
    bench = Bench(graph="g", ms={1: {"torch fp32": 8.0, "a": 2.0}, 8: {"a": 4.0}})
    assert bench.ratios(1, "torch fp32") == {"torch fp32": 1.0, "a": 4.0}
    assert bench.ratios(8, "torch fp32") == {}


def test_the_command(
    tiny_bundle: Path, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """A tower and a bundle in one report, with the load of the machine."""
    monkeypatch.setattr(clip_tower, "VIT_B_32", SMALL)
    report = tmp_path / "r.json"
    words = ["bench", "export", str(tiny_bundle), "--model", str(tiny_student), "--runs", "1", "--threads", "1"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json", str(report)])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert "load average" in said.out and "ViT-B/32" in said.out
    data = json.loads(report.read_text())
    assert {"image_encoder", "text_encoder", "cross_attention", "decoder"} < set(data["graphs"])
    assert data["graphs"]["image_encoder"]["times_faster_than_torch_fp32"]["8"]["torch fp32"] == 1.0
    assert data["graphs"]["decoder"]["times_faster_than_torch_fp32"] == {"1": {}, "8": {}}
    with pytest.raises(SystemExit) as ended:
        main(["bench", "export", "--no-tower"])
    assert ended.value.code == 2 and "Nothing to time" in capsys.readouterr().err
