"""XSum: news articles, each with one sentence that says what it is about.

Source: 002_330011b7ef9ac362.txt, section 4.1 (NLU and NLG) and Table 6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlkd_hub.errors import DataError
from vlkd_training.data.text_tables import check_texts, open_texts, pick_columns

__all__ = ["load_xsum"]


def load_xsum(source: str | Path, split: str, limit: int | None = None) -> Any:
    """Open one split.

    Args:
        source: an id on a hub (``EdinburghNLP/xsum``), or a folder of json, csv or parquet files with its columns: see
            :func:`vlkd_training.data.text_tables.open_texts`.
        split: ``train``, ``validation`` or ``test``.
        limit: keep only the first rows.

    Returns:
        A ``datasets.Dataset`` with the columns ``document`` and ``summary``. The few articles of the set that are empty
        are left out.

    Raises:
        DataError: a missing split or column, a cell that is no text, or no article with words.
    """
    where = f"{source} ({split})"
    rows = open_texts(source, split, limit=limit)
    rows = pick_columns(rows, {"document": "document", "summary": "summary"}, where)
    check_texts(rows, ("document", "summary"), where)
    pairs = zip(rows["document"], rows["summary"], strict=True)
    kept = [row for row, (document, summary) in enumerate(pairs) if document.strip() and summary.strip()]
    if not kept:
        raise DataError(f"{where}: every document or its summary is empty; there is nothing to summarise.")
    return rows if len(kept) == len(rows) else rows.select(kept)
