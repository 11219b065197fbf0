"""The numpy and Pillow twin of transformers' image processor: every bit, on pictures that people really send."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime import ImageProcessor, load_image


def noise(mode: str, width: int, height: int) -> Image.Image:
    """Seeded noise in any of Pillow's modes."""
    random = np.random.RandomState(width * 1000 + height)
    if mode == "I;16":
        return Image.fromarray(random.randint(0, 1 << 16, (height, width)).astype(np.uint16))
    rgba = Image.fromarray(random.randint(0, 256, (height, width, 4)).astype(np.uint8), "RGBA")
    if mode in ("RGBA", "LA"):
        return rgba.convert(mode)
    image = rgba.convert("RGB").convert(mode)
    return image


def palette_with_transparency() -> Image.Image:
    """A GIF-like picture: its transparency is a number in ``info``, not a band."""
    image = noise("P", 40, 30)
    image.info["transparency"] = int(np.asarray(image)[0, 0])
    return image


def turned_by_exif() -> Image.Image:
    """Stored lying on its side, as a phone does."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    noise("RGB", 50, 30).save(stream, format="PNG", exif=exif)
    return Image.open(stream)


PICTURES = {
    "square": noise("RGB", 32, 32),
    "wide": noise("RGB", 101, 37),
    "tall": noise("RGB", 37, 101),
    "one row": noise("RGB", 61, 1),
    "one column": noise("RGB", 1, 61),
    "one pixel": noise("RGB", 1, 1),
    "large": noise("RGB", 640, 479),
    "odd by one": noise("RGB", 33, 34),
    "grey": noise("L", 45, 67),
    "two colours": noise("1", 45, 67),
    "alpha": noise("RGBA", 45, 67),
    "grey with alpha": noise("LA", 67, 45),
    "palette": noise("P", 45, 67),
    "palette with transparency": palette_with_transparency(),
    "CMYK": noise("CMYK", 45, 67),
    "YCbCr": noise("YCbCr", 45, 67),
    "16 bits": noise("I;16", 45, 67),
    "EXIF, not turned": turned_by_exif(),
}
SQUARE = {"height": 32, "width": 32}
CONFIGS: dict[str, dict[str, Any]] = {
    "CLIP": {},
    "small": {"size": {"shortest_edge": 32}, "crop_size": SQUARE},
    "bilinear": {"size": {"shortest_edge": 32}, "crop_size": SQUARE, "resample": 2},
    "squashed": {"size": {"height": 40, "width": 31}, "do_center_crop": False},
    "crop larger than the picture": {"size": {"shortest_edge": 21}, "crop_size": {"height": 64, "width": 45}},
    "crop without resize": {"do_resize": False, "crop_size": {"height": 50, "width": 41}},
    "other mean": {"size": {"shortest_edge": 32}, "crop_size": SQUARE, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "rescale alone": {"size": {"shortest_edge": 32}, "crop_size": SQUARE, "do_normalize": False},
    "other factor": {"size": {"shortest_edge": 32}, "crop_size": SQUARE, "rescale_factor": 1 / 127.5},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_equal_to_transformers_in_every_bit(config: dict[str, Any], tmp_path: Path) -> None:
    """A resize that differs a little costs recall, so nothing here may differ at all."""
    original = CLIPImageProcessorPil(**config)
    original.save_pretrained(tmp_path)
    twin = ImageProcessor.from_pretrained(tmp_path)
    for name, picture in PICTURES.items():
        expected = np.asarray(original([picture], return_tensors="np")["pixel_values"])
        found = twin([picture])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_a_batch_is_its_pictures() -> None:
    """Pictures of a batch do not touch each other."""
    twin = ImageProcessor.from_config(CONFIGS["small"])
    some = [PICTURES["wide"], PICTURES["grey"], PICTURES["CMYK"]]
    np.testing.assert_array_equal(twin(some), np.concatenate([twin([picture]) for picture in some]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"image_processor_type": "SiglipImageProcessor"}, "SiglipImageProcessor"),
        ({"do_pad": True}, "do_pad"),
        ({"do_center_crop": False}, "different sizes"),
        ({"size": {"longest_edge": 9}}, "longest_edge"),
        ({"size": {"shortest_edge": -1}}, "-1"),
        ({"size": "224"}, "224"),
    ],
)
def test_settings_that_are_not_done_are_refused(config: dict[str, Any], message: str) -> None:
    """A setting passed over in silence would be another preprocessing."""
    with pytest.raises(BundleError, match=message):
        ImageProcessor.from_config(config)


def test_bad_pictures_are_told() -> None:
    """What a person sends wrong comes back in words."""
    twin = ImageProcessor.from_config(CONFIGS["small"])
    with pytest.raises(InvalidInputError, match="non-empty list"):
        twin([])
    with pytest.raises(InvalidInputError, match="list"):
        twin(PICTURES["wide"])  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="ndarray"):
        twin([np.zeros((3, 3))])  # type: ignore[list-item]
    strip = Image.new("L", (1, 60_000))
    with pytest.raises(InvalidInputError, match="too thin"):
        ImageProcessor.from_config({})([strip] * 2 + [Image.new("L", (1, 2_000_000))])


def test_load_image_turns_a_picture_upright(tmp_path: Path) -> None:
    """The processor leaves EXIF alone, as the original does; reading the file is where it is applied."""
    path = tmp_path / "turned.png"
    stored = turned_by_exif()
    stored.save(path, exif=stored.getexif())
    assert load_image(path).size == (30, 50)
    assert load_image(path.read_bytes()).size == (30, 50)


def test_load_image_refuses_what_is_no_picture(tmp_path: Path) -> None:
    """One class of error for every way in which a file is no picture."""
    with pytest.raises(InvalidInputError, match="no picture at"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(InvalidInputError, match="Cannot decode"):
        load_image(b"GIF89a and then nothing")
    stream = io.BytesIO()
    noise("RGB", 64, 64).save(stream, format="PNG")
    with pytest.raises(InvalidInputError, match="Cannot decode"):
        load_image(stream.getvalue()[:1000])
