"""From untrusted bytes to an RGB picture: three decoders only, and every limit is checked before pixels are made."""

from __future__ import annotations

import binascii
import io
import re
from dataclasses import dataclass

import pybase64
from PIL import Image, ImageOps

from vlkd_serving.errors import TooLargeError, UnprocessableError, UnsupportedMediaError

__all__ = ["FORMATS", "PictureLimits", "decode_base64", "decode_picture", "has_signature", "picture_size"]

FORMATS = ("JPEG", "PNG", "WEBP")
_ACCEPTED = "JPEG, PNG or WebP"
_OTHER_FORMATS = (
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"SIMPLE  =", "FITS"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG"),
)
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<parameters>(?:;[\w.+=-]+)*),", re.ASCII | re.IGNORECASE)
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that lay a picture on its side."""
_PHOTOGRAPH = "MPO"
"""A JPEG photograph with a preview or a gain map behind it; the first of its frames is the picture."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class PictureLimits:
    """What a picture may be at most; see :class:`vlkd_serving.settings.ServerSettings` for the meaning."""

    max_bytes: int = 10 << 20
    max_pixels: int = 25_000_000
    max_aspect_ratio: float = 50.0


def decode_base64(text: str, limits: PictureLimits, param: str | None = None) -> bytes:
    """The bytes in a base64 string or a ``data:`` URL.

    Raises:
        UnprocessableError: not base64, a ``data:`` URL without base64 or comma, or any other URL: this server
            fetches nothing.
        TooLargeError: more bytes than allowed, seen before decoding.
    """
    if text[:5].lower() == "data:":
        match = _DATA_URL.match(text[:256])
        if match is None or not match["parameters"].lower().endswith(";base64"):
            raise UnprocessableError("A data URL must look like data:image/png;base64,AAAA.", param)
        text = text[match.end() :]
    elif _SCHEME.match(text[:32]):
        raise UnprocessableError(
            "Pictures are not fetched from URLs here: send the picture itself, as base64 or as a data URL.", param
        )
    if len(text) // 4 * 3 > limits.max_bytes + 3:
        raise TooLargeError(f"A picture may have at most {limits.max_bytes} bytes.", param)
    try:
        return pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnprocessableError("The picture is not valid base64.", param) from None


def decode_picture(content: bytes, limits: PictureLimits, param: str | None = None) -> Image.Image:
    """Decode one picture to RGB, upright as its EXIF orientation says.

    Args:
        content: the encoded picture.
        limits: checked against the length and the header, before any pixel is decoded.
        param: the request's field, for the error.

    Raises:
        UnprocessableError: empty, not a picture, broken, animated, or too long for its width.
        UnsupportedMediaError: a picture of another format than JPEG, PNG or WebP.
        TooLargeError: too many bytes or pixels.
    """
    if not content:
        raise UnprocessableError("The picture is empty: 0 bytes.", param)
    if len(content) > limits.max_bytes:
        raise TooLargeError(f"A picture may have at most {limits.max_bytes} bytes, got {len(content)}.", param)
    _check_signature(content, param)
    broken = UnprocessableError("The picture cannot be decoded: it is damaged or cut short.", param)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLargeError(f"A picture may have at most {limits.max_pixels} pixels.", param) from None
    except Exception:  # decoders raise OSError, SyntaxError, struct.error and more for one and the same thing
        raise broken from None
    with image:
        _check_header(image, limits, param)
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image if image.mode == "RGB" else image.convert("RGB")
        except Exception:
            raise broken from None


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height of a picture that :func:`decode_picture` has accepted, as it is shown: upright."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
    return (height, width) if turned else (width, height)


def has_signature(content: bytes) -> bool:
    """Whether bytes begin as a picture of an accepted format does."""
    known = content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
    return known or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _check_signature(content: bytes, param: str | None) -> None:
    if has_signature(content):
        return
    head = content[:64].lstrip()
    name = next((name for signature, name in _OTHER_FORMATS if head.startswith(signature)), None)
    if name is None and content[4:8] == b"ftyp":
        name = "HEIF, AVIF or video"
    if name is not None:
        raise UnsupportedMediaError(f"{name} is not accepted: send {_ACCEPTED}.", param)
    raise UnprocessableError(f"These bytes are not a picture: send {_ACCEPTED}.", param)


def _check_header(image: Image.Image, limits: PictureLimits, param: str | None) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise TooLargeError(f"A picture may have at most {limits.max_pixels} pixels, got {width} x {height}.", param)
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        raise UnprocessableError(
            f"One side may be at most {limits.max_aspect_ratio:g} times the other, got {width} x {height} pixels.",
            param,
        )
    if image.format != _PHOTOGRAPH and getattr(image, "n_frames", 1) > 1:
        raise UnprocessableError(f"Send one picture, not an animation ({image.n_frames} frames).", param)  # type: ignore[attr-defined]
