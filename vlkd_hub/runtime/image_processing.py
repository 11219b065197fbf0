"""Pictures to ``pixel_values``, exactly as transformers' ``CLIPImageProcessor(backend="pil")`` does, without it.

``preprocessor_config.json`` is the only source of settings. Every value equals that of the original bit for bit: the
resize is Pillow's own, and the arithmetic after it maps one of 256 byte values to one float, so a table of 256 entries
a channel, filled by the original's formula, replaces it (and is several times faster).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vlkd_hub.errors import BundleError, InvalidInputError

__all__ = ["CONFIG_NAME", "ImageProcessor", "load_image", "to_rgb"]

CONFIG_NAME = "preprocessor_config.json"
MAX_RESIZED_PIXELS = 1 << 26
"""A 1 x 10,000 strip resized to a shortest edge of 224 would hold 500 million pixels; such pictures are refused."""

CLIP_DEFAULTS: dict[str, Any] = {
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "resample": int(Image.Resampling.BICUBIC),
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def load_image(source: bytes | str | Path) -> Image.Image:
    """Decode a picture from a file or from its bytes, upright (its EXIF orientation applied).

    Raises:
        InvalidInputError: there is no such file, or it is not a picture that Pillow can decode.
    """
    name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        image.load()
        return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise InvalidInputError(f"There is no picture at {name}.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInputError(f"Cannot decode a picture from {name}: {error}. Expected JPEG, PNG or WebP.") from error


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """Resize, centre crop, rescale and normalise pictures.

    Build it with :meth:`from_pretrained` or :meth:`from_config`; the fields are those of ``preprocessor_config.json``.
    """

    do_convert_rgb: bool
    do_resize: bool
    size: dict[str, int]
    """``{"shortest_edge": n}`` or ``{"height": h, "width": w}``, pixels."""
    resample: int
    """Pillow's number of the filter: 2 bilinear, 3 bicubic."""
    do_center_crop: bool
    crop_size: dict[str, int]
    table: NDArray[np.float32]
    """Normalised value of each byte in each channel, shape ``(3, 256)``."""

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> ImageProcessor:
        """Read ``preprocessor_config.json`` in ``directory``.

        Raises:
            BundleError: the file is absent, is not JSON, or asks for something that is not done here.
        """
        path = Path(directory) / CONFIG_NAME
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"Cannot read {path}: {error}. Export the student again.") from error
        return cls.from_config(config)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ImageProcessor:
        """Check the settings and fill the table. Absent keys take CLIP's defaults.

        Raises:
            BundleError: see :meth:`from_pretrained`.
        """
        kind = str(config.get("image_processor_type", "CLIPImageProcessor"))
        if kind.removesuffix("Pil").removesuffix("Fast") != "CLIPImageProcessor" or config.get("do_pad"):
            raise BundleError(
                f"{CONFIG_NAME} asks for {kind} with do_pad={config.get('do_pad', False)}; the runtime does what "
                "CLIPImageProcessor does, without padding. Save the processor as a CLIPImageProcessor."
            )
        full = CLIP_DEFAULTS | {key: value for key, value in config.items() if value is not None}
        size = _size(full["size"], square=bool(full["default_to_square"]))
        crop_size = _size(full["crop_size"], square=True)
        if not full["do_center_crop"] and not (full["do_resize"] and "height" in size):
            raise BundleError(
                f"{CONFIG_NAME} leaves pictures of different sizes: set do_center_crop, or size to height and width."
            )
        return cls(
            do_convert_rgb=bool(full["do_convert_rgb"]),
            do_resize=bool(full["do_resize"]),
            size=size,
            resample=int(full["resample"]),
            do_center_crop=bool(full["do_center_crop"]),
            crop_size=crop_size,
            table=_table(full),
        )

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width in pixels of every result."""
        size = self.crop_size if self.do_center_crop else self.size
        return size["height"], size["width"]

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return ``pixel_values`` of shape ``(batch, 3, height, width)``.

        Raises:
            InvalidInputError: no picture came, one is not a Pillow picture, or one is too thin to be resized.
        """
        if isinstance(images, Image.Image) or not images:
            raise InvalidInputError("Expected a non-empty list of Pillow pictures. Wrap one picture in a list.")
        pixel_values = np.empty((len(images), 3, *self.output_size), dtype=np.float32)
        for index, image in enumerate(images):
            pixels = self._pixels(image)  # (height, width, 3) uint8
            for channel in range(3):
                # No byte is outside the table: to clip none is faster than to check each.
                np.take(self.table[channel], pixels[..., channel], out=pixel_values[index, channel], mode="clip")
        return pixel_values

    def region(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """What is seen of a picture: left, top, right and bottom of the crop in shares of its width and height.

        Args:
            size: width and height in pixels. Below 0 or above 1 is what was added in black.

        Raises:
            InvalidInputError: it is too thin to be resized.
        """
        resized = self._resized(size) if self.do_resize else size
        wanted = self.output_size[::-1]
        starts = [
            (have - crop) // 2 if have >= crop else -math.ceil((crop - have) / 2)
            for have, crop in zip(resized, wanted, strict=True)
        ]
        left, top = (start / have for start, have in zip(starts, resized, strict=True))
        right, bottom = ((start + crop) / have for start, crop, have in zip(starts, wanted, resized, strict=True))
        return left, top, right, bottom

    def _pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        if not isinstance(image, Image.Image):
            raise InvalidInputError(
                f"Expected a Pillow picture, got {type(image).__name__}. Open it with load_image()."
            )
        if self.do_convert_rgb:
            image = to_rgb(image)
        elif image.mode != "RGB":
            raise InvalidInputError(f"Expected an RGB picture (do_convert_rgb is off), got mode {image.mode}.")
        if self.do_resize:
            image = image.resize(self._resized(image.size), resample=self.resample)
        pixels = np.asarray(image)
        return self._center_crop(pixels) if self.do_center_crop else pixels

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height after the resize; the longer edge is cut down to a whole number, never rounded up."""
        if "height" in self.size:
            return self.size["width"], self.size["height"]
        short, long = min(size), max(size)
        edge = self.size["shortest_edge"]
        longest = int(edge * long / short)
        if edge * longest > MAX_RESIZED_PIXELS:
            raise InvalidInputError(
                f"A picture of {size[0]} x {size[1]} pixels is too thin: with its shorter edge at {edge} it would "
                f"be {longest} long. Crop it first."
            )
        return (edge, longest) if size[0] <= size[1] else (longest, edge)

    def _center_crop(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the middle out; where the picture is smaller, black is added, one more pixel before it than after."""
        for axis, wanted in enumerate((self.crop_size["height"], self.crop_size["width"])):
            have = pixels.shape[axis]
            if have < wanted:
                before = math.ceil((wanted - have) / 2)
                margins = [(0, 0)] * 3
                margins[axis] = (before, wanted - have - before)
                pixels = np.pad(pixels, margins)
            else:
                start = (have - wanted) // 2
                pixels = pixels[(slice(None),) * axis + (slice(start, start + wanted),)]
        return pixels


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB, transparency laid over white; the picture itself where it is that already."""
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _size(value: Any, *, square: bool) -> dict[str, int]:
    """Bring a size of ``preprocessor_config.json`` (a number or a dict) to one of two forms."""
    if isinstance(value, int):
        return {"height": value, "width": value} if square else {"shortest_edge": value}
    if isinstance(value, dict):
        sizes = {key: number for key, number in value.items() if number is not None}
        whole = all(type(number) is int and number > 0 for number in sizes.values())
        if whole and set(sizes) in ({"height", "width"}, {"shortest_edge"}):
            return sizes
    raise BundleError(f"{CONFIG_NAME}: expected a size as height and width or as shortest_edge, got {value!r}.")


def _table(config: dict[str, Any]) -> NDArray[np.float32]:
    """``(byte * rescale_factor - mean) / std`` for each channel and byte, with the original's roundings."""
    table = np.repeat(np.arange(256, dtype=np.uint8)[None], 3, axis=0).astype(np.float64)
    if config["do_rescale"]:
        table = table * config["rescale_factor"]
    values = table.astype(np.float32)
    if config["do_normalize"]:
        mean, std = (np.broadcast_to(np.array(config[key], np.float32), (3,)) for key in ("image_mean", "image_std"))
        values = (values - mean[:, None]) / std[:, None]
    return np.ascontiguousarray(values, dtype=np.float32)
