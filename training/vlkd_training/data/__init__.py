"""Data sets: one record type, loaders for each format, and the scenes generator."""

from __future__ import annotations

from vlkd_training.data.open import FORMATS, data_format, load_records, stream_records
from vlkd_training.data.records import Hypothesis, QuestionAnswer, Record, RecordDataset, Region

__all__ = [
    "FORMATS",
    "Hypothesis",
    "QuestionAnswer",
    "Record",
    "RecordDataset",
    "Region",
    "data_format",
    "load_records",
    "stream_records",
]
