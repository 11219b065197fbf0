"""Files that were damaged, swapped or forged: one clear error each, or the generation before; never a crash."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vlkd_hub.errors import BundleError, VlkdError
from vlkd_serving.index import (
    Budget,
    IndexCorruptError,
    IndexReader,
    IndexWriter,
    Item,
    LiveIndex,
    LiveWriter,
)
from vlkd_serving.index import manifest as manifest_module

SPACE, D = "ab" * 32, 16


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One generation with kept vectors, and three changes in its log."""
    directory = tmp_path_factory.mktemp("hostile") / "index"
    rng = np.random.default_rng(0)
    with IndexWriter(directory, SPACE) as writer:
        budget = Budget(kind="flat", codec="int8", recall=0.1)
        writer.build([Item(id=f"i{n}") for n in range(40)], rng.normal(size=(40, D)), None, budget=budget)
    with LiveWriter(directory) as live:
        for n in range(3):
            live.put([Item(id=f"new{n}")], rng.normal(size=(1, D)))
    return directory


@pytest.fixture
def index(good: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(good, tmp_path / "index")
    return tmp_path / "index"


def gen(index: Path, name: str) -> Path:
    return index / "gen-000001" / name


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(bytes(content))


def link(path: Path) -> None:
    target = path.with_name(f"elsewhere-{path.name}")
    path.rename(target)
    path.symlink_to(target)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b"") and None,
    "cut": cut,
    "grown": grow,
    "garbled": garble,
    "link": link,
    "folder": folder,
    "pipe": pipe,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["vectors.faiss", "exact.npy", "ids.bin", "items.sqlite"])
def test_a_file_of_the_generation(index: Path, name: str, damage: str) -> None:
    """Named in the error; a pipe does not hang the reader."""
    DAMAGE[damage](gen(index, name))
    with pytest.raises(IndexCorruptError, match=name.replace(".", r"\.")):
        IndexReader.open(index)


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "missing"])
def test_the_manifest(index: Path, damage: str) -> None:
    """The only generation cannot be trusted then."""
    DAMAGE[damage](index / "MANIFEST")
    with pytest.raises(IndexCorruptError, match="MANIFEST"):
        IndexReader.open(index)


def test_vectors_cut_and_flipped_everywhere(
    index: Path, nightly: bool, record_property: Callable[[str, object], None]
) -> None:
    """Cut at every 64 bytes, and bits flipped at 200 places (20,000 nightly): told before FAISS reads a byte of it."""
    path, rng, flips = gen(index, "vectors.faiss"), np.random.default_rng(0), 20_000 if nightly else 200
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(0, len(whole), 64)]
    for position in rng.integers(len(whole), size=flips):
        content = bytearray(whole)
        content[position] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(content))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(IndexCorruptError, match=r"vectors\.faiss is damaged"):
            IndexReader.open(index)
    record_property("cuts_and_flips", len(damaged))
    path.write_bytes(whole)
    assert len(IndexReader.open(index)) == 43


def forge(index: Path, **changed: object) -> None:
    """A manifest that someone wrote with a right checksum."""
    body = json.loads((index / "MANIFEST").read_bytes())
    del body["checksum"]
    body |= changed
    body["checksum"] = manifest_module._checksum(body)
    (index / "MANIFEST").write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "other"}, "format 'other'"),
        ({"format_version": 3}, "version 3"),
        ({"generation": -1}, "generation is -1"),
        ({"generation": "../../etc"}, "expected int"),
        ({"generation": True}, "expected int"),
        ({"ntotal": 41}, "another number"),
        ({"embedding_dim": 8}, "another number or width"),
        ({"files": {"../x": {"size": 1, "sha256": "0"}}}, "plain name"),
        ({"files": {}}, "does not name exactly"),
        ({"extra": 1}, "unknown field"),
        ({"spec": {"kind": "hnsw", "codec": "fp32", "factory": "", "effort": 1}}, "expected a structure of kind hnsw"),
        (
            {"spec": {"kind": "magic", "codec": "fp32", "factory": "", "effort": 1}},
            "expected a structure of kind magic",
        ),
        ({"spec": {"kind": "flat", "codec": "binary", "factory": ""}}, "not a FAISS index"),
        ({"budget": {"recall": 7}}, "recall to reach"),
        ({"image_root": "/etc"}, "expected an object"),
    ],
)
def test_a_forged_manifest(index: Path, changed: dict[str, object], message: str) -> None:
    """Every field is checked against its type and against the files."""
    forge(index, **changed)
    with pytest.raises(IndexCorruptError, match=message):
        IndexReader.open(index)


def test_an_oversized_manifest_is_not_read(index: Path) -> None:
    """A megabyte is more than any manifest."""
    with (index / "MANIFEST").open("r+b") as handle:
        handle.truncate(1 << 40)
    with pytest.raises(IndexCorruptError, match="at most 1048576"):
        IndexReader.open(index)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vectors.faiss", b"IxSQ" + b"\xff" * 200),
        ("items.sqlite", b"SQLite format 3\x00" + b"\xff" * 200),
        ("items.sqlite", b"no table"),
        ("exact.npy", b"\x93NUMPY\x01\x00\xff\xff"),
        ("exact.npy", b"\x80\x04\x95pickle"),
        ("ids.bin", b"VLKDIDS1" + b"\xff" * 8),
        ("ids.bin", b"VLKDIDS1" + struct.pack("<4Q", 2, 0, 9, 1) + b"x"),
    ],
)
def test_a_forged_file_with_the_right_hash(index: Path, name: str, content: bytes) -> None:
    """The hash alone is not trusted: what is inside is checked as well."""
    from vlkd_serving.index.fsio import file_sha256

    gen(index, name).write_bytes(content)
    files = json.loads((index / "MANIFEST").read_bytes())["files"]
    files[name] = {"size": len(content), "sha256": file_sha256(gen(index, name))}
    forge(index, files=files)
    with pytest.raises(IndexCorruptError):
        IndexReader.open(index)


def wal(index: Path) -> Path:
    (path,) = index.glob("wal-*.log")
    return path


def record(header: dict[str, object], blob: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    payload = struct.pack("<I", len(text)) + text + blob
    return struct.pack("<4sII", b"VWL2", len(payload), zlib.crc32(payload)) + payload


def append(index: Path, content: bytes) -> None:
    with wal(index).open("ab") as handle:
        handle.write(content)


ONE = np.eye(D, dtype="<f4")[:1].tobytes()
LOGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "first record garbled": (lambda i: wal(i).write_bytes(b"\0" * 30 + wal(i).read_bytes()[30:]), "damaged before"),
    "middle garbled": (lambda i: garble(wal(i)), "damaged before"),
    "link": (lambda i: link(wal(i)), "not a plain file"),
    "pipe": (lambda i: pipe(wal(i)), "not a plain file"),
    "of another index": (
        lambda i: wal(i).write_bytes(record({"epoch": 1, "first": 2, "fingerprint": "cd" * 32, "dim": D})),
        "another index",
    ),
    "a change twice": (lambda i: append(i, record({"sequence": 4, "put": [], "removed": []})), "change 4 where 5"),
    "a change left out": (lambda i: append(i, record({"sequence": 9, "put": [], "removed": []})), "change 9 where 5"),
    "no header": (lambda i: append(i, record({})), "not one of this index"),
    "a short vector": (
        lambda i: append(i, record({"sequence": 5, "put": [["a", None, "{}"]], "removed": []}, ONE[:8])),
        "not one of this index",
    ),
    "a bad id": (
        lambda i: append(i, record({"sequence": 5, "put": [["", None, "{}"]], "removed": []}, ONE)),
        "not one of this index",
    ),
    "a later segment alone": (
        lambda i: wal(i).rename(i / "wal-000001-000000000009.log"),
        "confirmed changes are missing",
    ),
    "a segment missing between": (
        lambda i: shutil.copy(wal(i), i / "wal-000001-000000000009.log"),
        "confirmed changes are missing",
    ),
}


@pytest.mark.parametrize("case", LOGS)
def test_the_log(index: Path, case: str) -> None:
    """What was confirmed is never silently left out."""
    damage, message = LOGS[case]
    damage(index)
    with pytest.raises(IndexCorruptError, match=message):
        IndexReader.open(index)


@pytest.mark.parametrize("size", range(1, 400, 9))
def test_a_torn_log_is_read_up_to_the_tear(index: Path, size: int) -> None:
    """Cut anywhere, or with rubbish for a tail: whole records before it count, and a writer goes on after them."""
    whole = wal(index).read_bytes()
    wal(index).write_bytes(whole[:-size] + (b"\xff" * (size % 40)))
    found = [item.id for item in IndexReader.open(index).items()][40:]
    assert found == ["new0", "new1", "new2"][: len(found)]
    with LiveWriter(index) as live:
        live.put([Item(id="after")], np.ones((1, D)))
    assert [item.id for item in IndexReader.open(index).items()][40:] == [*found, "after"]


def test_every_bit_of_a_small_log(index: Path) -> None:
    """Flipped at 100 places: an error, or exactly the records before the flip, with their vectors."""
    good, rng, vectors = wal(index).read_bytes(), np.random.default_rng(0), IndexReader.open(index).vectors()
    for position in rng.integers(len(good), size=100):
        content = bytearray(good)
        content[position] ^= 1 << int(rng.integers(8))
        wal(index).write_bytes(bytes(content))
        try:
            reader = IndexReader.open(index)
        except VlkdError:
            continue
        found = [item.id for item in reader.items()][40:]
        np.testing.assert_array_equal(reader.vectors(), vectors[: len(reader)])
        assert found == ["new0", "new1", "new2"][: len(found)] and len(found) >= 2


@pytest.mark.parametrize("place", ["LOCK", "MANIFEST.tmp"])
def test_links_where_a_writer_writes(index: Path, tmp_path: Path, place: str) -> None:
    """A link laid in the folder does not make the writer write elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (index / place).unlink(missing_ok=True)
    (index / place).symlink_to(victim)
    with pytest.raises(VlkdError), IndexWriter(index, SPACE) as writer:
        writer.remove(["i1"])
    assert victim.read_text() == "untouched"
    assert len(IndexReader.open(index)) == 43


def test_a_follower_survives_damage_and_recovers(index: Path) -> None:
    """A server goes on with what it has, says so, and takes the next good generation."""
    live = LiveIndex(index, SPACE)
    garble(wal(index))
    append(index, record({"sequence": 99, "put": [], "removed": []}))
    assert not live.refresh() and live.degraded is not None and len(live.current) == 43
    with IndexWriter(index, SPACE) as writer:
        writer.build([Item(id="fresh")], np.ones((1, D)), None)
    assert live.refresh() and live.degraded is None and len(live.current) == 1


def test_no_index_is_told_as_such(tmp_path: Path) -> None:
    """For a reader, a follower and both writers."""
    for opening in (IndexReader.open, lambda d: LiveIndex(d, SPACE), lambda d: LiveWriter(d).__enter__()):
        with pytest.raises(BundleError, match="no index"):
            opening(tmp_path / "nothing")
    with pytest.raises(BundleError, match="no index"), IndexWriter(tmp_path / "new", SPACE) as writer:
        writer.add([], np.empty((0, D)), None)
