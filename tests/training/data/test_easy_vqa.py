from __future__ import annotations

from itertools import islice

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data.easy_vqa import read_easy_vqa

pytest.importorskip("easy_vqa", reason="easy-vqa is not installed (extra: dev)")


def test_records_and_types() -> None:
    """The package gives questions in rows; a record has all of one picture, with types that follow from the words."""
    records = list(islice(read_easy_vqa("easy-vqa", "test"), 50))
    assert len({record.id for record in records}) == 50
    assert records[0].load_image().size == (64, 64)
    for item in (item for record in records for item in record.qa):
        if item.type == "yes/no":
            assert item.answers[0] in ("yes", "no")
        else:
            assert item.type in ("color", "shape")
            assert (item.type == "color") == ("color" in item.question)


def test_unknown_split() -> None:
    """The package has no validation split."""
    with pytest.raises(DataError, match="no split 'validation'; it has: train, test"):
        next(read_easy_vqa("easy-vqa", "validation"))
