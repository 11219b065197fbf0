"""Which structures may serve N vectors under a budget, best first; the tuner then measures them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index.spec import Budget, Spec

__all__ = ["EXACT", "candidates", "list_count", "memory_of"]

EXACT = Spec(kind="flat", codec="fp32", factory="Flat")
FLAT_ROWS = 20_000
"""Up to here exact search takes about a millisecond on one core and nothing is gained by less."""
HNSW_ROWS = 200_000
"""Up to here a graph is built in minutes on two cores."""
_LINKS = 32
_BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "binary": 0.125}
_SQ = {"fp32": "Flat", "fp16": "SQfp16", "int8": "SQ8"}
_PQ_OVERSAMPLE = 10
_BINARY_OVERSAMPLE = 20
_INT8_OVERSAMPLE = 2
"""Of the ten best by eight-bit codes 0.97 are right; twenty candidates hold the rest, and fewer lists are enough."""


@dataclass(frozen=True)
class _Choice:
    kind: str
    codec: str


def candidates(rows: int, dim: int, budget: Budget) -> list[Spec]:
    """Structures that fit the memory budget, in the order in which to try them.

    Args:
        rows: N.
        dim: D.
        budget: what was asked for.

    Raises:
        InvalidInputError: a combination that does not exist, or nothing fits into the memory.
    """
    if budget.recall == 1 and budget.kind in ("auto", "flat") and budget.codec in ("auto", "fp32"):
        specs = [EXACT]
    else:
        specs = [_spec(choice, rows, dim) for choice in _choices(rows, dim, budget)]
    if not specs:
        raise InvalidInputError(
            f"There is no {budget.kind} structure of {budget.codec} for {rows} vectors of {dim} values. Binary codes "
            f"need kind flat and a width that 8 divides; ivfpq chooses its own codes; ivf needs 100 vectors."
        )
    if budget.memory_bytes is None:
        return specs
    fitting = [spec for spec in specs if memory_of(spec, rows, dim) <= budget.memory_bytes]
    if not fitting:
        least = min(memory_of(spec, rows, dim) for spec in specs)
        raise InvalidInputError(
            f"{rows} vectors of {dim} values need at least {least / 1e6:.1f} MB under these options, and the budget is "
            f"{budget.memory_bytes / 1e6:.1f} MB. Allow more memory, a smaller precision, or split the index."
        )
    return fitting


def memory_of(spec: Spec, rows: int, dim: int) -> int:
    """Bytes that a structure holds, estimated from its parts."""
    if spec.codec == "pq":
        code = float(_code_bytes(spec))
    else:
        code = dim * _BYTES[spec.codec]
    if spec.kind == "hnsw":
        code += (2 * _LINKS + 2) * 4
    if spec.kind in ("ivf", "ivfpq"):
        code += 8  # the row's number
        return int(rows * code + list_count(rows) * dim * 4)
    return int(rows * code)


def list_count(rows: int) -> int:
    """Lists of an inverted file: about 2 sqrt(N), a power of two, with at least 32 rows a list."""
    power: int = 1 << round(math.log2(2 * math.sqrt(max(rows, 1))))
    return max(1, min(power, rows // 32))


def _choices(rows: int, dim: int, budget: Budget) -> list[_Choice]:
    flat = [_Choice("flat", codec) for codec in ("fp32", "fp16", "int8")]
    graph = [_Choice("hnsw", codec) for codec in ("fp32", "fp16", "int8")]
    lists = [_Choice("ivf", codec) for codec in ("int8", "fp16", "fp32")]
    small = [_Choice("ivfpq", "pq"), _Choice("flat", "binary")]
    if rows <= FLAT_ROWS:
        order = flat + lists + graph + small
    elif rows <= HNSW_ROWS:
        order = graph + lists + small + flat
    else:
        order = lists + small + flat + graph
    kept = []
    for choice in order:
        fits_kind = budget.kind in ("auto", choice.kind)
        fits_codec = budget.codec in ("auto", choice.codec) or (choice.codec == "pq" and budget.kind == "ivfpq")
        possible = (choice.codec != "binary" or dim % 8 == 0) and (choice.kind not in ("ivf", "ivfpq") or rows >= 100)
        if fits_kind and fits_codec and possible:
            kept.append(choice)
    return kept


def _spec(choice: _Choice, rows: int, dim: int) -> Spec:
    if choice.codec == "binary":
        return Spec(kind="flat", codec="binary", factory="", oversample=_BINARY_OVERSAMPLE)
    if choice.kind == "ivfpq":
        parts = next(size for size in (64, 48, 32, 24, 16, 12, 8, 4, 3, 2, 1) if dim % size == 0 and size <= dim // 2)
        bits = 8 if rows >= 10_000 else 6 if rows >= 2_500 else 4
        factory = f"OPQ{parts},IVF{list_count(rows)},PQ{parts}x{bits}"
        return Spec(kind="ivfpq", codec="pq", factory=factory, effort=1, oversample=_PQ_OVERSAMPLE)
    words, oversample = _SQ[choice.codec], _INT8_OVERSAMPLE if choice.codec == "int8" else 1
    if choice.kind == "hnsw":
        return Spec(kind="hnsw", codec=choice.codec, factory=f"HNSW{_LINKS},{words}", effort=16, oversample=oversample)
    if choice.kind == "ivf":
        factory = f"IVF{list_count(rows)},{words}"
        return Spec(kind="ivf", codec=choice.codec, factory=factory, effort=1, oversample=oversample)
    return Spec(kind="flat", codec=choice.codec, factory=words, oversample=oversample)


def _code_bytes(spec: Spec) -> int:
    parts, bits = spec.factory.rsplit("PQ", 1)[1].split("x")
    return math.ceil(int(parts) * int(bits) / 8)
