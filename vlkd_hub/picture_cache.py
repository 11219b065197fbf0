"""What an image tower said of a picture, kept for the next question about the same picture."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from PIL import Image

__all__ = ["PictureCache"]


class PictureCache:
    """Least-recently-used tensors by the picture's content, bounded in bytes.

    A caption, an embedding and a dozen questions about one picture then cost one pass through the tower.

    Args:
        max_bytes: upper bound of what is kept; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def encode(
        self, images: Sequence[Image.Image], encode: Callable[[list[Image.Image]], torch.Tensor]
    ) -> torch.Tensor:
        """Return one row a picture; ``encode`` sees each unknown picture once.

        Args:
            images: at least one picture.
            encode: maps pictures to a tensor of shape ``(pictures, ...)``.
        """
        by_object = {id(image): _digest(image) for image in {id(image): image for image in images}.values()}
        keys = [by_object[id(image)] for image in images]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        if missing:
            found |= zip(missing, encode(list(missing.values())), strict=True)
        for key in dict.fromkeys(keys):
            self._keep(key, found[key])
        return torch.stack([found[key] for key in keys])

    def _keep(self, key: bytes, value: torch.Tensor) -> None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return
        self._kept[key] = value.clone()  # a view would hold the whole batch alive
        self.size += value.nbytes
        while self.size > self.max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.size -= dropped.nbytes


def _digest(image: Image.Image) -> bytes:
    head = f"{image.mode}{image.size}".encode()
    return hashlib.blake2b(image.tobytes(), key=hashlib.blake2b(head, digest_size=32).digest(), digest_size=16).digest()
