"""The tower runs once a picture, and a picture is its content."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image

from vlkd_hub.picture_cache import PictureCache

ROW = torch.zeros(1, 2).nbytes


def _picture(red: int, size: tuple[int, int] = (4, 6), mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", size, (red, 0, 0)).convert(mode)


def _tower(seen: list[int]) -> Callable[[list[Image.Image]], torch.Tensor]:
    def encode(images: list[Image.Image]) -> torch.Tensor:
        seen.append(len(images))
        return torch.tensor([[image.convert("RGB").getpixel((0, 0))[0], image.width] for image in images]).float()

    return encode


def test_equal_pictures_are_encoded_once_in_the_order_asked() -> None:
    seen: list[int] = []
    cache = PictureCache(1000)
    rows = cache.encode([_picture(1), _picture(2), _picture(1)], _tower(seen))
    assert rows[:, 0].tolist() == [1, 2, 1]
    again = cache.encode([_picture(2), _picture(3)], _tower(seen))
    assert again[:, 0].tolist() == [2, 3]
    assert seen == [2, 1]


def test_same_bytes_in_another_shape_or_mode_are_another_picture() -> None:
    seen: list[int] = []
    cache = PictureCache(1000)
    rows = cache.encode([_picture(1), _picture(1, (6, 4)), _picture(0, mode="L"), _picture(0, mode="P")], _tower(seen))
    assert rows[:, 1].tolist() == [4, 6, 4, 4]
    assert seen == [4]


def test_the_least_recently_used_is_dropped_at_the_bound() -> None:
    seen: list[int] = []
    cache = PictureCache(2 * ROW)
    cache.encode([_picture(1)], _tower(seen))
    cache.encode([_picture(2)], _tower(seen))
    cache.encode([_picture(1)], _tower(seen))  # now 2 is the oldest
    cache.encode([_picture(3)], _tower(seen))
    assert cache.size == 2 * ROW
    seen.clear()
    cache.encode([_picture(1), _picture(3)], _tower(seen))
    assert seen == []
    cache.encode([_picture(2)], _tower(seen))
    assert seen == [1]


def test_no_room_keeps_nothing() -> None:
    seen: list[int] = []
    cache = PictureCache(0)
    assert cache.encode([_picture(1)], _tower(seen))[:, 0].tolist() == [1]
    cache.encode([_picture(1)], _tower(seen))
    assert seen == [1, 1]
    assert cache.size == 0
