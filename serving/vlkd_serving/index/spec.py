"""The small records of an index's manifest: what was asked for, what was built, what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from vlkd_hub.errors import InvalidInputError

__all__ = ["CODECS", "KINDS", "Budget", "Measured", "Spec"]

KINDS = ("auto", "flat", "hnsw", "ivf", "ivfpq")
CODECS = ("auto", "fp32", "fp16", "int8", "binary")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What an index may cost and must reach; kept in the manifest, so that a compaction chooses by it again.

    Args:
        recall: recall@10 against exact search to reach, in (0, 1]; 1 means exact search.
        memory_bytes: most memory for the structure that is searched, or None. The vectors kept for scoring again are
            mapped from disk and not counted.
        latency_ms: longest median time of one query, or None.
        kind: ``flat``, ``hnsw``, ``ivf`` or ``ivfpq`` instead of a choice.
        codec: how the searched vectors are held: ``fp32``, ``fp16``, ``int8`` or ``binary`` instead of a choice.
    """

    recall: float = 0.95
    memory_bytes: int | None = None
    latency_ms: float | None = None
    kind: str = "auto"
    codec: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise InvalidInputError(f"The recall to reach must lie in (0, 1], got {self.recall}.")
        if self.kind not in KINDS:
            raise InvalidInputError(f"Unknown kind {self.kind!r}; expected one of {', '.join(KINDS)}.")
        if self.codec not in CODECS:
            raise InvalidInputError(f"Unknown precision {self.codec!r}; expected one of {', '.join(CODECS)}.")
        for name, value in (("memory", self.memory_bytes), ("latency", self.latency_ms)):
            if value is not None and value <= 0:
                raise InvalidInputError(f"The {name} budget must be above 0, got {value}.")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A FAISS structure and how hard it is searched.

    Args:
        kind: ``flat``, ``hnsw``, ``ivf`` or ``ivfpq``.
        codec: ``fp32``, ``fp16``, ``int8``, ``binary`` or ``pq``.
        factory: the words for ``faiss.index_factory``; empty for the binary structure.
        effort: lists probed (IVF) or candidates kept (HNSW); 0 where there is nothing to turn.
        oversample: candidates scored again with the kept vectors, as a multiple of the hits asked for.
        trained_rows: how many rows there were when the centroids and codes were learnt.
    """

    kind: str
    codec: str
    factory: str
    effort: int = 0
    oversample: int = 1
    trained_rows: int = 0

    @property
    def words(self) -> tuple[str, str]:
        """Kind and codec."""
        return self.kind, self.codec

    @property
    def exact(self) -> bool:
        """Whether the structure itself answers as exact fp32 search does."""
        return self.kind == "flat" and self.codec == "fp32"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the structure reached after it was built.

    Args:
        recall: recall@10 against exact search, on queries that chose nothing.
        queries: how many.
        source: ``held-out`` (rows of the index, not found as their own neighbour) or ``given``.
        target: the recall asked for.
        met: whether recall, memory and latency are all within the budget.
        latency_ms: median of one query, alone.
        exact_latency_ms: the same by exact search over all vectors.
        memory_bytes: of the structure.
    """

    recall: float
    queries: int
    source: str
    target: float
    met: bool
    latency_ms: float
    exact_latency_ms: float
    memory_bytes: int
