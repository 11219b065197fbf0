"""What ``vlkd verify`` catches in a bundle that somebody changed, and by which of its layers.

Three layers: the SHA-256 list (and the manifest's own checksum), the opsets, the answers. The list catches every
change; whoever can change a file can also write the list anew, and then the opsets and the answers must catch it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from vlkd_hub.bundle import read_manifest, write_manifest
from vlkd_hub.cli import main

Attack = Callable[[Path], None]


def weight(graph: str, amount: float = 2.0) -> Attack:
    """Add ``amount`` to one number of the graph's largest weight."""

    def attack(bundle: Path) -> None:
        path = bundle / "onnx" / f"{graph}.onnx"
        model = onnx.load(path)
        floats = [item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT]
        largest = max(floats, key=lambda item: int(np.prod(item.dims)))
        values = onnx.numpy_helper.to_array(largest).copy()
        # Of the word for "a" where the weight is a table of words: one that every golden caption holds.
        values.reshape(len(values), -1)[min(5, len(values) - 1), 0] += amount
        largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
        onnx.save_model(model, path)

    return attack


def opset(bundle: Path) -> None:
    """The same nodes under another version, whose operators may mean something else."""
    path = bundle / "onnx" / "text_encoder.onnx"
    model = onnx.load(path)
    next(item for item in model.opset_import if item.domain == "").version = 20
    onnx.save_model(model, path)


def every_opset(bundle: Path) -> None:
    """All graphs and the manifest, so that they agree with each other."""
    for path in (bundle / "onnx").glob("*.onnx"):
        model = onnx.load(path)
        next(item for item in model.opset_import if item.domain == "").version = 20
        onnx.save_model(model, path)
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"opset": 20}))


def words(one: str, other: str) -> Attack:
    """Exchange the numbers of two words."""

    def attack(bundle: Path) -> None:
        path = bundle / "tokenizer.json"
        data = json.loads(path.read_text())
        table = data["model"]["vocab"]
        table[one], table[other] = table[other], table[one]
        path.write_text(json.dumps(data))

    return attack


def preprocessor(**settings: object) -> Attack:
    """Change settings of ``preprocessor_config.json``."""

    def attack(bundle: Path) -> None:
        path = bundle / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return attack


def fewer_tasks(bundle: Path) -> None:
    """A text that is never written is never compared."""
    path = bundle / "processor_config.json"
    data = json.loads(path.read_text())
    del data["tasks"]["vqa"]
    path.write_text(json.dumps(data))


SWAPPED = "tokenizer is not the one of the export"
ATTACKS: dict[str, tuple[Attack, str]] = {
    "weight of image_encoder": (weight("image_encoder"), "embeddings of the drawn|sketches of visual_states"),
    "weight of text_encoder": (weight("text_encoder"), "embeddings of the texts|sketches of text_states"),
    # A key turns the attention only, and hardly so at random weights this small.
    "weight of cross_attention": (weight("cross_attention", 300.0), "another text|sketches of caption_logits"),
    "weight of decoder": (weight("decoder"), "another text|sketches of caption_logits"),
    "two common words": (words("a", "red"), SWAPPED),
    "two words of no golden text": (words("one", ":"), SWAPPED),
    "larger crop": (preprocessor(crop_size={"height": 48, "width": 48}), "cannot run on pixel_values|cannot answer"),
    "crop of the shorter edge": (preprocessor(size={"shortest_edge": 32}), "embeddings of the drawn pictures"),
    "brighter": (preprocessor(image_mean=[0.4, 0.4, 0.4]), "embeddings of the drawn pictures"),
    "opset of one graph": (opset, "written in opset 20; the certificate says 18 and the manifest 18"),
    "opset of all graphs and the manifest": (every_opset, "written in opset 20; the certificate says 18"),
    "a task less": (fewer_tasks, "writes for .'caption'. and at the export"),
}
"""Name -> what is done, and what is said when the list of hashes agrees with it."""


def verify(bundle: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(bundle)])
    return int(ended.value.code or 0), " ".join(capsys.readouterr().err.split())


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("name", ATTACKS)
def test_every_change_is_caught(name: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First by the hashes; after the hashes were written anew, by the layer named above. One line, exit code 2."""
    attack, message = ATTACKS[name]
    attack(bundle)
    code, said = verify(bundle, capsys)
    assert code == 2 and ("SHA-256 differs" in said or "checksum differs" in said), said
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"checksum": ""}))
    write_manifest(bundle, _noted(bundle))
    assert read_manifest(bundle).files  # the list agrees with the files now
    code, said = verify(bundle, capsys)
    assert code == 2
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(said)


def test_an_untouched_bundle_passes(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its list written anew too: the tests above fail for what was changed and for nothing else."""
    write_manifest(bundle, read_manifest(bundle))
    assert verify(bundle, capsys)[0] == 0


def _noted(bundle: Path):  # type: ignore[no-untyped-def]
    """The manifest as it stands, whatever its list says."""
    from vlkd_hub.bundle import Manifest

    return Manifest.from_json((bundle / "manifest.json").read_text())
