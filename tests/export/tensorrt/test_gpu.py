"""On an NVIDIA GPU with TensorRT: engines are built and answer as the certificate says. Run with ``-m gpu``.

They have not been run on the machines on which this is developed, which have no GPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vlkd_export.golden import drawn_pictures
from vlkd_hub.runtime import OnnxStudent

pytestmark = pytest.mark.gpu

PICTURES = [picture.image for picture in drawn_pictures()]


@pytest.fixture(scope="module")
def device() -> str:
    """Compute capability of the first GPU, where TensorRT is installed too."""
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    from vlkd_hub.errors import MissingDependencyError
    from vlkd_hub.runtime.tensorrt.cuda import compute_capability

    try:
        return compute_capability()
    except MissingDependencyError as error:
        pytest.skip(f"no GPU: {error}")


@pytest.mark.parametrize(("precision", "cosine"), [("fp32", 0.9999), ("fp16", 0.999), ("bf16", 0.99), ("int8", 0.95)])
def test_engines_answer_as_onnxruntime(
    device: str, tiny_bundle: Path, tmp_path: Path, precision: str, cosine: float
) -> None:
    """Accuracy before speed: vectors by their cosine, and in fp32 the captions word by word."""
    from vlkd_export.tensorrt.builder import build_engines
    from vlkd_export.tensorrt.prepare import TensorrtSettings, prepare_tensorrt
    from vlkd_hub.runtime.tensorrt import TensorrtStudent

    prepare_tensorrt(tiny_bundle, tmp_path / "bundle", TensorrtSettings(precision=precision))
    assert all(report.built for report in build_engines(tmp_path / "bundle"))
    assert not any(report.built for report in build_engines(tmp_path / "bundle"))
    student, expected = TensorrtStudent.from_pretrained(tmp_path / "bundle"), OnnxStudent.from_pretrained(tiny_bundle)
    cosines = np.sum(student.embed_images(PICTURES) * expected.embed_images(PICTURES), axis=1)
    assert cosines.min() >= cosine
    if precision == "fp32":
        assert student.caption(PICTURES, num_beams=2) == expected.caption(PICTURES, num_beams=2)


def test_onnxruntimes_provider_finds_its_cache(device: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """The second way: the second start reads the engines of the first."""
    import onnxruntime

    from vlkd_export.tensorrt.prepare import TensorrtSettings, prepare_tensorrt
    from vlkd_hub.runtime.tensorrt import read_plan, tensorrt_provider_options

    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no TensorRT provider")
    plan = prepare_tensorrt(tiny_bundle, tmp_path / "bundle", TensorrtSettings(precision="fp16"))
    provider = tensorrt_provider_options("image_encoder", tmp_path / "cache", plan.profiles["image_encoder"])
    path = str(tmp_path / "bundle" / "tensorrt" / "image_encoder.onnx")
    pixels = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    for _ in range(2):
        session = onnxruntime.InferenceSession(path, providers=[provider])
        assert session.get_providers()[0] == provider[0]
        session.run(None, {"pixel_values": pixels})
        engines = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.engine")}
    assert engines and read_plan(tmp_path / "bundle").precision == "fp16"
