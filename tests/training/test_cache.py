"""The feature cache trusts nothing that it did not close itself."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vlkd_hub.errors import DataError
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
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_what_a_killed_build_left_is_cleared(tmp_path: Path) -> None:
    """A build that was killed could not tidy up; its name tells whose it was, and the lock that it is gone."""
    left = tmp_path / f"building-{fingerprint(KEY)}"
    left.mkdir()
    (left / "tokens.npy").write_bytes(b"half")
    open_cache(tmp_path, Filler())
    assert not left.exists()


def test_two_processes_build_once(tmp_path: Path) -> None:
    """Started together by a launcher, one computes the features and the other waits and reads them."""
    fills = [Filler(), Filler()]

    def slow(fill: Filler) -> None:
        def filling(arrays: dict[str, np.ndarray]) -> None:
            fill(arrays)
            time.sleep(0.2)

        FeatureCache.open_or_build(tmp_path, KEY, SPECS, filling)

    threads = [threading.Thread(target=slow, args=(fill,)) for fill in fills]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fill.calls for fill in fills) == [0, 1]


def test_the_size_is_said_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fill sees the announcement already made; an int8 array counts its scales."""
    said = []
    specs = {"tokens": ArraySpec((2048, 512)), "small": ArraySpec((2048, 512), "int8")}
    assert specs["tokens"].nbytes == 2 << 20
    assert specs["small"].nbytes == (1 << 20) + 4096
    FeatureCache.open_or_build(tmp_path, KEY, specs, lambda arrays: said.append(capsys.readouterr().err))
    assert "writing 3 MiB" in said[0]


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(tmp_path: Path) -> None:
    huge = {"tokens": ArraySpec((1 << 40, 512))}
    with pytest.raises(DataError, match="The features need .* GiB and .* free.*--cache-dtype int8"):
        FeatureCache.open_or_build(tmp_path, KEY, huge, lambda arrays: None)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_large_arrays_lie_in_several_files(tmp_path: Path, dtype: str) -> None:
    """Views and pictures are rows; damage in any one file is found."""
    values = np.random.default_rng(0).normal(size=(2, 7, 3, 4))
    fills = []

    def fill(arrays: dict[str, Any]) -> None:
        fills.append(1)
        for view in range(2):
            for start in (0, 4):
                arrays["tokens"][view, start : start + 4] = values[view, start : start + 4]

    def build() -> FeatureCache:
        spec = {"tokens": ArraySpec((2, 7, 3, 4), dtype, lead=2)}
        return FeatureCache.open_or_build(tmp_path, KEY, spec, fill, shard_bytes=100)

    cache = build()
    assert len(cache.files) == {"float16": 4, "int8": 4}[dtype]
    found, tolerance = cache["tokens"], {"float16": 2e-3, "int8": 1.5e-2}[dtype]
    assert (found.shape, found.dtype, len(found)) == ((2, 7, 3, 4), np.float16, 2)
    np.testing.assert_allclose(np.array(found), values, atol=tolerance)
    np.testing.assert_allclose(found[1, 6], values[1, 6], atol=tolerance)
    np.testing.assert_allclose(found[1][2:5], values[1, 2:5], atol=tolerance)
    np.testing.assert_allclose(found[0][[6, 0, 6]], values[0][[6, 0, 6]], atol=tolerance)
    np.testing.assert_allclose(found[0][-1], values[0, -1], atol=tolerance)
    with pytest.raises(IndexError):
        found[0][7]
    file = sorted(cache.folder.glob("*.npy"))[1]
    content = bytearray(file.read_bytes())
    content[-1] ^= 0x40
    file.write_bytes(bytes(content))
    np.testing.assert_allclose(np.array(build()["tokens"]), values, atol=tolerance)
    assert len(fills) == 2
    build()
    assert len(fills) == 2


def test_int8_keeps_zero_rows_and_the_largest_value(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.0], [-3.0, 1.5], [1e-4, 0.0]])

    def fill(arrays: dict[str, Any]) -> None:
        arrays["rows"][:] = values

    cache = FeatureCache.open_or_build(tmp_path, KEY, {"rows": ArraySpec((3, 2), "int8")}, fill)
    np.testing.assert_allclose(cache["rows"][[0, 1, 2]], values, atol=1.2e-2)
    assert cache["rows"][1][0] == -3.0
    assert not cache["rows"][0].any()


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
