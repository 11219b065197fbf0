"""Untrusted pictures: limits before pixels, three formats, upright RGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from vlkd_serving.errors import ServingError, TooLargeError, UnprocessableError, UnsupportedMediaError
from vlkd_serving.images import PictureLimits, decode_base64, decode_picture, picture_size

LIMITS = PictureLimits(max_bytes=1 << 20)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header_only(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_accepted_formats(form: str, picture_bytes: Callable[..., bytes]) -> None:
    """Each comes out as RGB of its own size."""
    image = decode_picture(picture_bytes("green", form), LIMITS)
    assert (image.mode, image.size) == ("RGB", (32, 24))
    assert image.getpixel((5, 5))[1] > 200


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", UnprocessableError),
        (b"hello, this is text", UnprocessableError),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 10, UnprocessableError),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, UnprocessableError),
        (b"%PDF-1.7", UnsupportedMediaError),
        (b"%!PS-Adobe-3.0 EPSF-3.0", UnsupportedMediaError),
        (b"SIMPLE  =                    T", UnsupportedMediaError),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", UnsupportedMediaError),
        (b"<svg xmlns='x'/>", UnsupportedMediaError),
        (b"  <?xml version='1.0'?><svg/>", UnsupportedMediaError),
        (b"GIF89a", UnsupportedMediaError),
        (b"\x00\x00\x00\x1cftypavif", UnsupportedMediaError),
        (b"\xff\xd8\xff" + b"\0" * (1 << 20), TooLargeError),
    ],
)
def test_refused_bytes(content: bytes, kind: type[ServingError]) -> None:
    """Each for its own reason; the message is ours."""
    with pytest.raises(kind) as caught:
        decode_picture(content, LIMITS, "image")
    assert caught.value.param == "image" and "0x" not in caught.value.message


def test_half_a_picture_is_refused(picture_bytes: Callable[..., bytes]) -> None:
    """Pillow would fill the rest with grey if it were told to."""
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    for form in ("PNG", "JPEG", "WEBP"):
        buffer = io.BytesIO()
        noise.save(buffer, form)
        content = buffer.getvalue()
        with pytest.raises(UnprocessableError, match="damaged"):
            decode_picture(content[: len(content) // 2], LIMITS)


@pytest.mark.parametrize("size", [(20_000, 20_000), (6_000, 5_000), (60_000, 60_000)])
def test_a_small_file_with_many_pixels_is_refused_from_its_header(size: tuple[int, int]) -> None:
    """Decoding it would take gigabytes."""
    with pytest.raises(TooLargeError, match="pixels"):
        decode_picture(png_header_only(*size), LIMITS)


def test_a_thin_picture_is_refused(picture_bytes: Callable[..., bytes]) -> None:
    """1 x 60,000 would be resized to 224 x 13,440,000."""
    with pytest.raises(UnprocessableError, match="50 times"):
        decode_picture(picture_bytes("red", "PNG", (1, 60_000)), LIMITS)
    assert decode_picture(picture_bytes("red", "PNG", (3, 150)), LIMITS).size == (3, 150)
    assert decode_picture(picture_bytes("red", "PNG", (1, 1)), LIMITS).size == (1, 1)


def test_an_animation_is_refused() -> None:
    """Which frame would be meant?"""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for form in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
        with pytest.raises(UnprocessableError, match="3 frames"):
            decode_picture(buffer.getvalue(), LIMITS)


def test_a_photograph_with_a_preview_is_its_first_frame() -> None:
    """Cameras and phones append a preview or a gain map (MPO); the limits are those of any picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    preview = Image.new("RGB", (8, 8), "blue")
    Image.new("RGB", (40, 20), "red").save(buffer, "MPO", save_all=True, append_images=[preview], exif=exif)
    photograph = buffer.getvalue()
    image = decode_picture(photograph, LIMITS)
    assert (image.mode, image.size) == ("RGB", (20, 40)) and image.getpixel((5, 5))[0] > 200
    assert picture_size(photograph) == (20, 40)
    with pytest.raises(TooLargeError, match="799 pixels"):
        decode_picture(photograph, PictureLimits(max_pixels=799))


def test_exif_orientation_is_applied() -> None:
    """A phone's portrait photo is stored lying down."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    assert decode_picture(buffer.getvalue(), LIMITS).size == (20, 40)


@pytest.mark.parametrize(
    "text",
    ["aGVsbG8=", "data:image/png;base64,aGVsbG8=", "data:;base64,aGVsbG8=", "DATA:image/png;name=x;base64,aGVsbG8="],
)
def test_base64_and_data_urls(text: str) -> None:
    """All spell the same bytes."""
    assert decode_base64(text, LIMITS) == b"hello"


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64",
        "data:image/png,aGVsbG8=",
        "data:nonsense",
        "aGVsbG8",
        "aGV sbG8=",
        "ä" * 8,
        "\ud800" * 4,
        "http://example.org/a.png",
        "https://127.0.0.1/a.png",
        "HTTP://2130706433/",
        "file:///etc/passwd",
        "ftp://example.org/a.png",
        "/etc/passwd",
        "../../secret.png",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """No URL is fetched and no path is read, in any spelling."""
    with pytest.raises(UnprocessableError):
        decode_base64(text, LIMITS)


def test_long_base64_is_refused_before_decoding() -> None:
    """The text alone tells the size."""
    with pytest.raises(TooLargeError):
        decode_base64("A" * (2 << 20), LIMITS)
