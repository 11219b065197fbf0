"""The feature cache trusts nothing that it did not close itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vlkd_training.cache import ArraySpec, FeatureCache, fingerprint, weights_fingerprint

KEY = {"data": "d", "weights": "w"}
SPECS = {"tokens": ArraySpec((5, 2, 3)), "ids": ArraySpec((5,), "int64")}


class Filler:
    """Counts how often the features are computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, arrays: dict[str, np.ndarray]) -> None:
        self.calls += 1
        arrays["tokens"][:] = np.arange(30).reshape(5, 2, 3)
        arrays["ids"][:] = np.arange(5)


def open_cache(root: Path, fill: Filler, key: dict[str, str] = KEY) -> FeatureCache:
    return FeatureCache.open_or_build(root, key, SPECS, fill)


def test_fills_once_and_reads_ever_after(tmp_path: Path) -> None:
    fill = Filler()
    open_cache(tmp_path, fill)
    cache = open_cache(tmp_path, fill)
    assert fill.calls == 1
    assert cache["tokens"].dtype == np.float16
    assert np.array_equal(cache["tokens"], np.arange(30).reshape(5, 2, 3))
    assert not cache["tokens"].flags.writeable


def test_another_key_is_another_folder(tmp_path: Path) -> None:
    """Features of other weights must never be read for these."""
    fill = Filler()
    first = open_cache(tmp_path, fill)
    second = open_cache(tmp_path, fill, KEY | {"weights": "other"})
    assert first.folder != second.folder
    assert fill.calls == 2
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def flip_a_byte(folder: Path) -> None:
    file = folder / "tokens.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 0x40
    file.write_bytes(bytes(content))


def truncate(folder: Path) -> None:
    file = folder / "tokens.npy"
    file.write_bytes(file.read_bytes()[:-8])


def lose_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


def break_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("{")


def lose_an_array(folder: Path) -> None:
    (folder / "ids.npy").unlink()


def forget_arrays(folder: Path) -> None:
    (folder / "meta.json").write_text(json.dumps({"arrays": {}}))


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, lose_meta, break_meta, lose_an_array, forget_arrays])
def test_builds_again_what_is_damaged(tmp_path: Path, damage) -> None:
    fill = Filler()
    damage(open_cache(tmp_path, fill).folder)
    cache = open_cache(tmp_path, fill)
    assert fill.calls == 2
    assert np.array_equal(cache["tokens"], np.arange(30).reshape(5, 2, 3))
    open_cache(tmp_path, fill)
    assert fill.calls == 2


def test_builds_again_for_another_shape(tmp_path: Path) -> None:
    fill = Filler()
    open_cache(tmp_path, fill)
    wider = SPECS | {"ids": ArraySpec((5, 1), "int64")}

    def fill_wider(arrays: dict[str, np.ndarray]) -> None:
        arrays["tokens"][:], arrays["ids"][:] = 1, 2

    assert FeatureCache.open_or_build(tmp_path, KEY, wider, fill_wider)["ids"].shape == (5, 1)


def test_a_fill_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Half a cache that a later run would trust is worse than none."""

    def fail(arrays: dict[str, np.ndarray]) -> None:
        arrays["ids"][:] = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureCache.open_or_build(tmp_path, KEY, SPECS, fail)
    assert list(tmp_path.iterdir()) == []


def test_weights_fingerprint_sees_every_parameter_and_buffer() -> None:
    """It is the proof that a frozen tower did not change: batch statistics count too."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = weights_fingerprint(module)
    assert weights_fingerprint(module) == before
    module[1].running_mean[0] += 1e-6
    assert weights_fingerprint(module) != before
    module[1].running_mean[0] = 0.0
    assert weights_fingerprint(module) == before
    with torch.no_grad():
        module[0].weight[0, 0] += 1e-3
    assert weights_fingerprint(module) != before
