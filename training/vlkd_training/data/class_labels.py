"""Classes of pictures as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlkd_hub.errors import DataError
from vlkd_training.data.hub import HubRecords
from vlkd_training.data.records import RecordDataset

__all__ = ["class_labels"]


def class_labels(records: RecordDataset, classes: Sequence[str] | None = None) -> tuple[list[str], list[int]]:
    """Number the classes of a split.

    Args:
        records: each with a class; of a table of ``datasets`` the column alone is read, not the pictures.
        classes: names in the order of their numbers, as the training split has them; found here where not given: in
            the table's own order (ImageNet's), otherwise by name.

    Returns:
        The names, and one number a record.

    Raises:
        DataError: a picture without a class, a class that is not among ``classes``, or fewer than two classes.
    """
    names, known = _names(records)
    if any(name is None for name in names):
        raise DataError(f"{records.name}: record {names.index(None)} has no class; a classifier needs one for each.")
    if classes is None:
        classes = known or sorted(set(names))
        if len(classes) < 2:
            raise DataError(f"{records.name} has only the class {classes[0]!r}; nothing can be told apart.")
    numbers = {name: number for number, name in enumerate(classes)}
    if strange := sorted(set(names) - set(numbers)):
        raise DataError(f"{records.name} has the class {strange[0]!r}, which the training split does not have.")
    return list(classes), [numbers[name] for name in names]


def _names(records: RecordDataset) -> tuple[list[Any], list[str] | None]:
    """The class of each record, and all classes where the table knows them."""
    inner = records.records
    column = inner.columns.get("class") if isinstance(inner, HubRecords) else None
    if not isinstance(inner, HubRecords) or column is None:
        return [record.label for record in records], None
    values, known = inner.rows[column][:], getattr(inner.rows.features[column], "names", None)
    if known is None:
        return [None if value is None else str(value) for value in values], None
    return [None if value is None or value < 0 else known[value] for value in values], list(known)
