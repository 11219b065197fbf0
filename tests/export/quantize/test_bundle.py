"""From an fp32 bundle to an int8 one that is a bundle like any other, with what it cost inside."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from vlkd_export.golden import drawn_pictures
from vlkd_export.quantize import autopilot, metrics
from vlkd_export.quantize.bundle import is_quantized, quantize_bundle
from vlkd_export.quantize.report import _warnings
from vlkd_export.quantize.settings import QuantizeSettings
from vlkd_hub.bundle import read_manifest
from vlkd_hub.cli import main
from vlkd_hub.errors import BundleError, DataError, MissingDependencyError
from vlkd_hub.runtime import OnnxStudent

GRAPHS = {"image_encoder", "text_encoder", "cross_attention", "decoder"}


def settings(data: Path, **options: Any) -> QuantizeSettings:
    """Quick, and on the CPU alone."""
    quick = {"runs": 1, "calibration_pictures": 8, "providers": ("cpu",)}
    return QuantizeSettings(data=str(data), **(quick | options))


@pytest.fixture(scope="module")
def int8(tiny_bundle: Path, captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tiny student in int8, whatever that costs a student with random weights."""
    output = tmp_path_factory.mktemp("int8") / "bundle"
    drop = {"r@10": 100.0, "cider": 1000.0, "vqa": 100.0}
    with pytest.MonkeyPatch.context() as patch:  # one timed run of a tiny graph says nothing of which way is slower
        patch.setattr(autopilot, "SLOWER", float("inf"))
        report = quantize_bundle(tiny_bundle, output, settings(captioned, max_drop=drop, report_split="test"))
    return output, report


def test_it_is_a_bundle_that_says_what_it_is(int8: tuple[Path, dict[str, Any]], tiny_bundle: Path) -> None:
    """Precision, gate and scores stand in the manifest; the class that serves it is the same."""
    folder, report = int8
    manifest, before = read_manifest(folder, verify=True), read_manifest(tiny_bundle)
    assert manifest.precision == "int8" and is_quantized(manifest) and not is_quantized(before)
    assert "need not be equal to torch's" in manifest.parity["statement"]
    assert manifest.fingerprint != before.fingerprint
    assert manifest.lineage["fp32_fingerprint"] == before.fingerprint
    assert set(manifest.quantization["plan"]) == GRAPHS
    assert manifest.quantization["lost"] == report["lost"] and "trials" not in manifest.quantization
    assert manifest.parity["with_fp32"]["smallest_image_cosine"] > 0.98
    student = OnnxStudent.from_pretrained(folder, provider="measured")
    image = drawn_pictures()[0].image
    assert student.embed_images([image]).shape == (1, 8) and isinstance(student.caption([image])[0], str)


def test_the_report_and_the_picture_lie_in_it(int8: tuple[Path, dict[str, Any]]) -> None:
    """With every candidate and every trial, and the split that nothing was decided on."""
    folder, report = int8
    assert json.loads((folder / "quantization.json").read_text()) == json.loads(json.dumps(report))
    ElementTree.fromstring((folder / "quantization.svg").read_text())
    assert set(report["candidates"]) == GRAPHS and report["trials"][0]["why"] == "fp32"
    assert sum(trial["chosen"] for trial in report["trials"]) == 1
    assert report["test"]["split"] == "test" and set(report["test"]["lost"]) >= {"r@10", "cider", "vqa"}
    for graph, item in report["plan"].items():
        assert item["method"] != "fp32" and item["bytes"] == (folder / "onnx" / f"{graph}.onnx").stat().st_size
        for batch in item["slower_at_batch"]:
            assert any(line.startswith(f"{graph} at batch {batch} is slower") for line in report["warnings"])


def test_its_certificate_is_its_own(int8: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """``vlkd verify`` asks this bundle what it answered itself, and does not promise torch's words."""
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(int8[0])])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert "captions and answers equal to its own at its export" in said.out and "torch" not in said.out
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(int8[0]), "--model", str(int8[0])])
    assert ended.value.code == 2 and "decided on by scores" in capsys.readouterr().err


def test_a_loss_that_is_not_allowed_puts_all_back(
    tiny_bundle: Path, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scorer that hates every change: fp32 comes out, and the warnings say so."""

    class Strict:
        tasks = ("retrieval",)

        def __init__(self, data: str, split: str) -> None:
            self.calls = 0

        def __call__(self, student: Any, tasks: Any) -> dict[str, float]:
            self.calls += 1
            return {"r@10": 50.0 if self.calls == 1 else 10.0}

    monkeypatch.setattr(EntryPoint, "load", lambda self: Strict)
    report = quantize_bundle(
        tiny_bundle, tmp_path / "bundle", settings(captioned, max_drop={"r@10": 0.5}, max_trials=4)
    )
    assert {graph for graph, item in report["plan"].items() if item["method"] == "fp32"} >= {"image_encoder"}
    assert report["lost"]["r@10"] <= 0.5 or report["precision"] == "fp32"
    assert any("stays fp32" in line for line in report["warnings"])


def test_float16_in_the_place_of_int8_is_told(int8: tuple[Path, dict[str, Any]]) -> None:
    """Who asked for int8 hears where it did not come to that."""
    _, report = int8
    assert not any("stored in float16" in line for line in report["warnings"])
    halves = {"text_encoder": report["plan"]["text_encoder"] | {"method": "weights16"}}
    (line,) = [line for line in _warnings(halves, "int8") if "stored in float16" in line]
    assert line.startswith("text_encoder is stored in float16, not int8")
    assert not any("stored in float16" in line for line in _warnings(halves, "auto"))


def test_only_fp32_bundles_and_free_places(
    int8: tuple[Path, dict[str, Any]], tiny_bundle: Path, captioned: Path
) -> None:
    """int8 of int8 would lose twice; a folder of a person's own is left alone."""
    with pytest.raises(BundleError, match="is int8; quantization starts from an fp32 bundle"):
        quantize_bundle(int8[0], int8[0].parent / "again", settings(captioned))
    with pytest.raises(BundleError, match="is not a bundle; it is left alone"):
        quantize_bundle(tiny_bundle, captioned, settings(captioned))


def test_without_an_evaluator(
    tiny_bundle: Path, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are on scores: nothing can be decided without them."""
    monkeypatch.setattr(metrics, "entry_points", lambda group, name: [])
    with pytest.raises(MissingDependencyError, match=r"vlkd-hub\[train\]"):
        quantize_bundle(tiny_bundle, tmp_path / "bundle", settings(captioned))
    assert not (tmp_path / "bundle").exists()


def test_data_without_pictures_to_calibrate_on(tiny_bundle: Path, captioned: Path, tmp_path: Path) -> None:
    """Told with the files that were looked for."""
    folder = tmp_path / "data"
    shutil.copytree(captioned / "validation", folder / "other")
    with pytest.raises(DataError, match="validation"):
        quantize_bundle(tiny_bundle, tmp_path / "bundle", settings(folder))


def test_the_page_is_run(int8: tuple[Path, dict[str, Any]], repo_root: Path) -> None:
    """What docs/quantization.md shows in Python, on this bundle."""
    pytest.importorskip("openvino", reason='OpenVINO is not installed: pip install "vlkd-hub[openvino]"')
    page = (repo_root / "docs" / "quantization.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block.replace('"BUNDLE"', repr(str(int8[0]))), "quantization.md", "exec"), names)
    assert names["student"].sessions["decoder"].get_providers()[0].startswith("OpenVINO")


def test_the_command(tiny_bundle: Path, captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a bundle, without torch's help; wrong options are one line."""
    words = ["export", str(tiny_bundle), "--output", str(tmp_path / "out"), "--precision", "fp16"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and "needs --data" in capsys.readouterr().err
    drop = [
        "--data",
        str(captioned),
        "--max-drop",
        "r@10=100",
        "--providers",
        "cpu",
        "--json",
        str(tmp_path / "r.json"),
    ]
    with pytest.raises(SystemExit) as ended:
        main([*words, *drop])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert "validation: " in said.out and "decoder: fp16 on cpu" in said.out
    assert json.loads((tmp_path / "r.json").read_text())["quantization"]["precision"] == "fp16"
    assert read_manifest(tmp_path / "out").precision == "fp16"


def test_extra_graphs_are_left_out_and_that_is_told(
    tiny_bundle: Path, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold float32 weights of graphs that are now others: kept, their answers would be another model's."""
    import shutil

    from vlkd_export.quantize import bundle as module

    source = shutil.copytree(tiny_bundle, tmp_path / "source")
    shutil.copy(source / "onnx" / "decoder.onnx", source / "onnx" / "greedy_decoder.onnx")
    plain = read_manifest(source)
    monkeypatch.setattr(module, "read_manifest", lambda folder, **options: plain)
    report = quantize_bundle(source, tmp_path / "bundle", settings(captioned, max_trials=4))
    assert not (tmp_path / "bundle" / "onnx" / "greedy_decoder.onnx").exists()
    assert [line for line in report["warnings"] if "greedy_decoder" in line] == [
        "greedy_decoder is left out: it holds the float32 weights of graphs that are now others."
    ]
    assert any(line.startswith("r@10 may lose 0.5 points") for line in report["warnings"])  # there are eight pictures


@pytest.mark.parametrize(
    ("limits", "counts", "named"),
    [
        ({"r@10": 0.5, "i2t_r@10": 0.5}, {"r@10": 1000, "i2t_r@10": 200}, ["i2t_r@10"]),
        ({"r@10": 0.5, "cider": 1.0}, {"r@10": 400}, ["r@10"]),
        ({"r@10": 0.3}, {"r@10": 1000}, []),
        ({"r@10": 0.5}, {}, []),
        ({"vqa": 0.5}, {"vqa": 0}, []),
    ],
)
def test_limits_that_chance_decides_are_told(
    limits: dict[str, float], counts: dict[str, int], named: list[str]
) -> None:
    """One of 200 pictures is half a point."""
    from vlkd_export.quantize.report import _too_fine

    lines = _too_fine(limits, counts, "validation")
    assert [line.split()[0] for line in lines] == named
    assert all("Decide on more data" in line for line in lines)
