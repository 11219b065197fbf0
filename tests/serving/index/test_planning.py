"""The structure is chosen by size, memory, latency and recall, measured, and searched as it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index import Budget, IndexReader, IndexWriter, Item, mix
from vlkd_serving.index.plan import candidates, memory_of
from vlkd_serving.index.sizes import parse_size

N, D = 3000, 32


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Clustered, so that an approximate search has something to miss."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, D))
    drawn = centres[rng.integers(60, size=N)] + 0.5 * rng.normal(size=(N, D))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def build(directory: Path, vectors: np.ndarray, budget: Budget, **options: object) -> IndexReader:
    items = [Item(id=f"i{n}", metadata={"n": n, "class": "abcdefgh"[n % 8]}) for n in range(len(vectors))]
    with IndexWriter(directory, "ab" * 32) as writer:
        writer.build(items, vectors, None, budget=budget, **options)
    return IndexReader.open(directory)


@pytest.mark.parametrize(
    ("rows", "budget", "first"),
    [
        (1_000, Budget(), "flat fp32"),
        (100_000, Budget(), "hnsw fp32"),
        (1_000_000, Budget(), "ivf int8"),
        (1_000_000, Budget(recall=1.0), "flat fp32"),
        (1_000_000, Budget(memory_bytes=10**8), "ivfpq pq"),
        (1_000_000, Budget(memory_bytes=4 * 10**7), "flat binary"),
        (100_000, Budget(memory_bytes=6 * 10**7), "hnsw int8"),
        (1_000, Budget(codec="fp16"), "flat fp16"),
        (1_000, Budget(kind="ivf", codec="fp16"), "ivf fp16"),
    ],
)
def test_the_first_choice(rows: int, budget: Budget, first: str) -> None:
    """By size and memory; each choice fits the budget by its own estimate."""
    specs = candidates(rows, 256, budget)
    assert f"{specs[0].kind} {specs[0].codec}" == first
    assert budget.memory_bytes is None or memory_of(specs[0], rows, 256) <= budget.memory_bytes


def test_what_cannot_fit_is_told() -> None:
    """With the least that would do."""
    with pytest.raises(InvalidInputError, match="need at least 32.0 MB"):
        candidates(1_000_000, 256, Budget(memory_bytes=1_000_000))
    with pytest.raises(InvalidInputError, match="There is no hnsw structure of binary"):
        candidates(1000, 256, Budget(kind="hnsw", codec="binary"))
    for wrong in ({"recall": 0.0}, {"recall": 1.1}, {"kind": "x"}, {"codec": "x"}, {"memory_bytes": 0}):
        with pytest.raises(InvalidInputError):
            Budget(**wrong)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(codec="fp16"),
        Budget(kind="flat", codec="int8"),
        Budget(codec="binary"),
        Budget(kind="hnsw", codec="int8"),
        Budget(kind="ivf", recall=0.9),
        Budget(kind="ivf", codec="fp32", recall=0.99),
        Budget(kind="ivfpq", recall=0.9),
    ],
    ids=lambda b: f"{b.kind}-{b.codec}-{b.recall}",
)
def test_measured_recall_is_what_new_queries_get(tmp_path: Path, vectors: np.ndarray, budget: Budget) -> None:
    """The build's own figure holds for queries it never saw; scores are exact cosines; filters and pages hold."""
    reader = build(tmp_path, vectors[: N - 200], budget)
    measured = reader.manifest.measured
    assert measured is not None and measured.met and measured.recall >= budget.recall and measured.queries >= 100
    fresh = vectors[N - 200 :]
    truth = np.argsort(-(fresh @ vectors[: N - 200].T), axis=1)[:, :10]
    found = reader.search_ids(fresh, 10)
    recall = np.mean(
        [len({i for i, _ in line} & {f"i{r}" for r in t}) / 10 for line, t in zip(found, truth, strict=True)]
    )
    assert recall >= budget.recall - 0.03 and abs(recall - measured.recall) < 0.06
    for (item_id, score), *_ in found[:20]:
        row = int(item_id[1:])
        best = max(fresh[found.index(next(f for f in found if f[0] == (item_id, score)))] @ vectors[row], -1)
        assert score == pytest.approx(best, abs=2e-3)
    pages = [hit.item.id for start in range(0, 300, 7) for hit in reader.search(fresh[0], 7, offset=start)]
    assert pages == [hit.item.id for hit in reader.search(fresh[0], 301)] and len(set(pages)) == 301
    filtered = reader.search(fresh[0], 10, where="class = 'c' AND n < 2000")
    allowed = [r for r in np.argsort(-(vectors[: N - 200] @ fresh[0])) if r % 8 == 2 and r < 2000][:10]
    assert [hit.item.id for hit in filtered] == [f"i{r}" for r in allowed]


def test_an_ivf_that_misses_its_latency_gives_way_or_says_so(tmp_path: Path, vectors: np.ndarray) -> None:
    """A budget nobody can meet is reported as not met, never silently."""
    reader = build(tmp_path, vectors, Budget(kind="flat", codec="int8", latency_ms=1e-6))
    assert reader.manifest.measured is not None and not reader.manifest.measured.met
    assert reader.stats()["within_budget"] is False


def test_given_queries_are_what_is_measured(tmp_path: Path, vectors: np.ndarray) -> None:
    """People ask in words: then the recall of words counts."""
    reader = build(tmp_path, vectors, Budget(kind="ivf"), queries=vectors[:300])
    assert reader.manifest.measured is not None and reader.manifest.measured.source == "given"


def test_a_filter_pushed_into_the_structure(
    tmp_path: Path, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When many rows fit, FAISS itself skips the others: no hit outside the filter, recall as promised."""
    from vlkd_serving.index import ranking

    monkeypatch.setattr(ranking, "_FEW_ROWS", 10)
    for budget in (Budget(kind="ivf"), Budget(kind="hnsw"), Budget(codec="binary"), Budget(kind="ivfpq", recall=0.9)):
        directory = tmp_path / f"{budget.kind}-{budget.codec}"
        reader = build(directory, vectors, budget)
        hits = [reader.search(query, 10, where="class IN ('a', 'b')") for query in vectors[:40]]
        assert all(int(hit.item.id[1:]) % 8 < 2 for line in hits for hit in line)
        rows = [r for r in range(N) if r % 8 < 2]
        truth = [{f"i{rows[r]}" for r in np.argsort(-(vectors[rows] @ query))[:10]} for query in vectors[:40]]
        shared = [len({hit.item.id for hit in line} & t) / 10 for line, t in zip(hits, truth, strict=True)]
        assert np.mean(shared) >= 0.9, budget


def test_mixed_queries() -> None:
    """The sum of unit vectors, by weight; a negative weight leads away; what cancels out is refused."""
    x, y = np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(mix([5 * x, y]), [2**-0.5, 2**-0.5], atol=1e-6)
    np.testing.assert_allclose(mix([x, y], [3, -4]), [0.6, -0.8], atol=1e-6)
    for parts, weights, message in [
        ([x, x], [1, -1], "cancel out"),
        ([x], [1, 2], "one finite weight"),
        ([], None, "one part"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            mix(parts, weights)
    with pytest.raises(InvalidInputError, match="one finite weight"):
        mix([x, y], [1, float("nan")])


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("1.5 MiB", 1_572_864), ("7", 7), ("4k", 4000)])
def test_sizes(text: str, size: int) -> None:
    """As people write them."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2 lots", "0", "1e3"])
def test_no_sizes(text: str) -> None:
    """Told, with an example."""
    with pytest.raises(InvalidInputError, match="size"):
        parse_size(text)
