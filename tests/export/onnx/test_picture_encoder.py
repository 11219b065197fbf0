"""Preprocessing in the graph gives what the processor gives, so that a picture has one vector and not two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vlkd_export.onnx.graph import export_graph
from vlkd_export.onnx.load import load_reference
from vlkd_export.onnx.picture_encoder import PictureEncoder, picture_encoder_spec
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime import ImageProcessor
from vlkd_hub.runtime.sessions import open_session

SIZES = [(w, h) for w in (7, 33, 61, 150, 224, 301, 640) for h in (9, 40, 97, 188, 300)][:32]
"""Width and height, none of them square; smaller and larger than what comes out."""
CONFIGS: dict[str, dict[str, Any]] = {
    "square": {"size": {"height": 32, "width": 32}, "do_center_crop": False},
    "shortest edge, crop": {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 24}},
    "crop larger than the picture": {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 33}},
    "bilinear": {"size": {"shortest_edge": 37}, "crop_size": 32, "resample": 2},
    "no resize": {"do_resize": False, "crop_size": {"height": 21, "width": 34}},
}


def pictures() -> list[NDArray[np.uint8]]:
    """Noise over stripes and flat parts: edges where a resize overshoots, and values at both ends."""
    random = np.random.RandomState(5)
    found = []
    for width, height in SIZES:
        y, x = np.mgrid[:height, :width]
        stripes = ((x // 3 + y // 5) % 2 * 255)[..., None] * np.array([1, 0, 1])
        noise = random.randint(0, 256, (height, width, 3))
        found.append(np.where((x < width // 2)[..., None], stripes, noise).astype(np.uint8))
    assert len(found) == 32 and all(w != h for w, h in SIZES)
    return found


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_the_pixels_are_the_processors(name: str) -> None:
    """Byte for byte but for sums that lie half way between two bytes, which stripes make many of: one step of 255."""
    processor = ImageProcessor.from_config(CONFIGS[name])
    encoder = PictureEncoder(torch.nn.Identity(), processor)
    differing = total = 0
    step = float((processor.table[:, 1] - processor.table[:, 0]).max())
    for pixels in pictures():
        expected = processor([Image.fromarray(pixels)])
        found = encoder.pixel_values(torch.from_numpy(pixels)[None]).numpy()
        steps = np.abs(found - expected) / step
        assert steps.max() < 1.01, pixels.shape
        differing += int((steps > 0.5).sum())
        total += steps.size
    assert differing <= total * 1e-2


@pytest.fixture(scope="module")
def encoder(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The graph of the tiny student in a session, and the student in torch."""
    reference = load_reference(tiny_student)
    processor = ImageProcessor.from_config(reference.processor.image_processor.to_dict())
    outputs = reference.exporter.image_outputs
    spec = picture_encoder_spec(reference.exporter.towers, processor, outputs)
    return open_session(export_graph(spec, tmp_path_factory.mktemp("graph"), 18)), reference


@torch.no_grad()
def test_the_vectors_are_the_processors(encoder: tuple[Any, Any]) -> None:
    """Cosine of 0.9999 or more on 32 pictures of as many sizes, one graph for all of them."""
    session, reference = encoder
    for pixels in pictures():
        image = reference.processor.image_processor([Image.fromarray(pixels)], return_tensors="pt")["pixel_values"]
        expected = reference.encode_image(image)[0][0].numpy()
        (found, *_) = session.run(None, {"pixels": pixels[None]})
        assert found[0] @ expected / np.linalg.norm(found[0]) >= 0.9999


def test_batches_and_the_smallest_pictures(encoder: tuple[Any, Any]) -> None:
    """Each row as if it were alone; a strip of one pixel is a picture too."""
    session, _ = encoder
    batch = np.random.RandomState(0).randint(0, 256, (3, 50, 20, 3)).astype(np.uint8)
    together = session.run(["image_embeds"], {"pixels": batch})[0]
    alone = np.concatenate([session.run(["image_embeds"], {"pixels": row[None]})[0] for row in batch])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    for shape in ((1, 1, 9, 3), (1, 9, 1, 3), (1, 1, 1, 3)):
        assert np.isfinite(session.run(None, {"pixels": np.full(shape, 200, np.uint8)})[0]).all()


def test_a_filter_that_is_not_built_is_refused() -> None:
    """Lanczos by another name would give other vectors."""
    with pytest.raises(InvalidInputError, match="bilinear .2. and bicubic .3. resize.*asks for 1"):
        PictureEncoder(torch.nn.Identity(), ImageProcessor.from_config({"resample": 1}))
