"""Candidates scored again inside FAISS: the scores are those of the kept vectors, and the file stays as it is."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from vlkd_serving.index import Budget, IndexReader, IndexWriter, Item, LiveIndex, LiveWriter
from vlkd_serving.index import vectors as vectors_module
from vlkd_serving.index.ranking import best_of
from vlkd_serving.index.vectors import KeptVectors

D, N = 32, 600
KINDS, CODECS = ("flat", "ivf", "hnsw"), ("fp16", "int8", "fp32")


def build(directory: Path, kind: str, codec: str, vectors: np.ndarray) -> IndexReader:
    with IndexWriter(directory, "ab" * 32) as writer:
        items = [Item(id=f"i{n}", metadata={"even": n % 2 == 0}) for n in range(len(vectors))]
        writer.build(items, vectors, None, budget=Budget(kind=kind, codec=codec, recall=0.5))
    return IndexReader.open(directory)


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


@pytest.mark.parametrize(("kind", "codec"), [pair for pair in product(KINDS, CODECS) if pair != ("flat", "fp32")])
def test_the_scores_are_those_of_the_kept_vectors(tmp_path: Path, kind: str, codec: str, vectors: np.ndarray) -> None:
    """One query and many, with a filter and without: the same candidates, scored and ordered as by hand."""
    reader = build(tmp_path, kind, codec, vectors)
    ranking, spec = reader.generation.ranking, reader.manifest.spec
    before = (tmp_path / reader.manifest.folder / "exact.npy").read_bytes()
    queries = np.random.default_rng(1).normal(size=(40, D)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    for selected in (None, np.arange(N) % 2 == 0):
        for asked in (queries[:1], queries):
            effort = spec.effort
            found, rows = ranking._rescored.search(asked, 20, selected, effort)
            _, candidates = ranking.structure.search(asked, 20, selected, effort)
            scores, expected = best_of(ranking.vectors.scores(asked, candidates), candidates, 20)
            there = expected >= 0
            np.testing.assert_array_equal(np.sort(rows, axis=1), np.sort(candidates, axis=1))
            np.testing.assert_allclose(found[there], scores[there], atol=1e-6)
    for line, query in zip(reader.search_ids(queries, 5), queries, strict=True):
        (alone,) = reader.search_ids(query[None], 5)
        assert [item_id for item_id, _ in alone] == [item_id for item_id, _ in line]
        np.testing.assert_allclose([score for _, score in alone], [score for _, score in line], atol=1e-6)
    assert (tmp_path / reader.manifest.folder / "exact.npy").read_bytes() == before


@pytest.mark.parametrize(("kind", "codec"), [("ivf", "int8"), ("hnsw", "fp32"), ("flat", "fp32"), ("ivf", "fp16")])
def test_vectors_in_memory_answer_alike(tmp_path: Path, kind: str, codec: str, vectors: np.ndarray) -> None:
    """The same hits as with the file mapped, to the last digit; and no file of vectors is needed any more."""
    mapped = build(tmp_path, kind, codec, vectors)
    loaded = IndexReader.open(tmp_path, in_memory=True)
    queries = np.random.default_rng(1).normal(size=(20, D)).astype(np.float32)
    assert loaded.search_ids(queries, 15) == mapped.search_ids(queries, 15)
    assert loaded.search(queries[0], 5, where="even = true") == mapped.search(queries[0], 5, where="even = true")
    np.testing.assert_array_equal(loaded.vectors(), mapped.vectors())
    if mapped.manifest.spec.exact:
        return
    path = tmp_path / mapped.manifest.folder / "exact.npy"
    assert loaded.generation.ranking.vectors.pages is not None
    path.write_bytes(bytes(path.stat().st_size))  # in place: what is mapped changes with it, what was read does not
    assert not mapped.vectors().any() and loaded.search_ids(queries[:1], 15)[0][0][1] > 0


def test_a_live_index_in_memory_stays_there(tmp_path: Path, vectors: np.ndarray) -> None:
    """Through a compaction, by its own writer or another's."""
    build(tmp_path, "ivf", "int8", vectors)
    live, follows = LiveIndex(tmp_path, None, in_memory=True), LiveIndex(tmp_path, None, in_memory=True)
    with LiveWriter(live) as writer:
        writer.put([Item(id="new")], vectors[:1])
        writer.compact()
    follows.refresh()
    for each in (live, follows):
        generation = each.current.generation
        assert generation.manifest.generation == 2 and len(each.current) == N + 1
        (tmp_path / generation.manifest.folder / "exact.npy").write_bytes(b"")
        assert np.isfinite(each.current.vectors()).all() and each.current.search(vectors[0], 2)[0].score > 0.9


def test_a_file_larger_than_the_memory_can_be_mapped(tmp_path: Path) -> None:
    """A terabyte of zeros: mapped to be written to, which Linux refuses by default; the file stays as it is."""
    shape = (1 << 31, 256)
    with (tmp_path / "exact.npy").open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {"descr": "<f2", "fortran_order": False, "shape": shape})
        handle.truncate(handle.tell() + (1 << 40))
    kept = KeptVectors.read(tmp_path / "exact.npy", shape)
    assert kept.pages is not None and kept.nbytes == 1 << 40
    kept.pages[0] = 1
    with (tmp_path / "exact.npy").open("rb") as handle:
        assert handle.read(1) == b"\x93"


def test_without_such_a_mapping_numpy_scores(
    tmp_path: Path, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are the same."""
    reader = build(tmp_path, "ivf", "int8", vectors)
    monkeypatch.setattr(vectors_module, "_private_pages", lambda path: None)
    other = IndexReader.open(tmp_path)
    for asked in (vectors[:1], vectors[:20]):
        for line, expected in zip(other.search_ids(asked, 5), reader.search_ids(asked, 5), strict=True):
            assert [item_id for item_id, _ in line] == [item_id for item_id, _ in expected]
            np.testing.assert_allclose([score for _, score in line], [score for _, score in expected], atol=1e-6)


def test_equal_scores_are_in_row_order(tmp_path: Path, vectors: np.ndarray) -> None:
    """Ten copies of one vector, spread over the rows."""
    copies = np.arange(7, N, 60)
    vectors[copies] = vectors[7]
    reader = build(tmp_path, "ivf", "int8", vectors)
    assert [item_id for item_id, _ in reader.search_ids(vectors[7:8], 10)[0]] == [f"i{n}" for n in copies]
    many = reader.search_ids(np.repeat(vectors[7:8], 3, axis=0), 10)
    assert [[item_id for item_id, _ in line] for line in many] == [[f"i{n}" for n in copies]] * 3


def test_more_than_the_lists_hold(tmp_path: Path, vectors: np.ndarray) -> None:
    """Where the probed lists end early, the rest is scanned for: every row is found, with its right score."""
    reader = build(tmp_path, "ivf", "int8", vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    (found,) = reader.search_ids(unit[:1], N)
    assert len({item_id for item_id, _ in found}) == N
    expected = {f"i{n}": float(score) for n, score in enumerate(unit @ unit[0])}
    np.testing.assert_allclose([score for _, score in found], [expected[i] for i, _ in found], atol=2e-3)
