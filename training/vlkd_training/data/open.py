"""Open any data set by what its name is: one call for training, evaluation and the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from vlkd_hub.errors import DataError
from vlkd_training.data.coco import read_coco
from vlkd_training.data.easy_vqa import read_easy_vqa
from vlkd_training.data.hub import HubRecords, read_hub
from vlkd_training.data.imagefolder import METADATA, read_imagefolder
from vlkd_training.data.records import Record, RecordDataset
from vlkd_training.data.scene_records import SCHEME as SCENES
from vlkd_training.data.scene_records import read_scenes
from vlkd_training.data.snli_ve import read_snli_ve
from vlkd_training.data.webdataset import SCHEME, read_shards

__all__ = ["FORMATS", "data_format", "load_records", "stream_records"]

FORMATS: dict[str, Callable[[str | Path, str], Iterator[Record]]] = {
    "coco": read_coco,
    "easy-vqa": read_easy_vqa,
    "hub": read_hub,
    "imagefolder": read_imagefolder,
    "scenes": read_scenes,
    "snli-ve": read_snli_ve,
    "webdataset": read_shards,
}
"""Reader of each format: ``(data, split)`` to records, one at a time."""


_PICTURES = (".jpeg", ".jpg", ".png", ".webp")


def data_format(data: str | Path) -> str:
    """Say which of :data:`FORMATS` reads ``data``.

    A folder with ``<split>/metadata.jsonl`` is an imagefolder; one with ``<split>.jsonl`` is SNLI-VE; any other
    folder is for ``datasets``: parquet, arrow, or pictures in ``<split>/<class>/``, as ImageNet has them. A ``.json``
    file is COCO or Karpathy; ``easy-vqa`` is the package; ``scenes:NUMBER`` are made as they are read;
    ``webdataset:PATTERN`` are shards; what is left is the id of a data set on a hub.

    Raises:
        DataError: ``data`` looks like a path and nothing is there.
    """
    name, path = str(data), Path(data)
    if name == "easy-vqa":
        return "easy-vqa"
    if name.startswith(SCENES):
        return "scenes"
    if name.startswith(SCHEME):
        return "webdataset"
    if path.is_file():
        if path.suffix != ".json":
            raise DataError(f"{path} is a file of unknown kind; a data file is COCO or Karpathy .json.")
        return "coco"
    if path.is_dir():
        return _folder_format(path)
    if isinstance(data, Path) or path.is_absolute() or name.startswith(".") or name.count("/") > 1 or path.suffix:
        raise DataError(f"{path} is not there. Expected a folder with <split>/{METADATA}, or see `--help` for others.")
    return "hub"


def load_records(data: str | Path, split: str, limit: int | None = None) -> RecordDataset:
    """Open a split for access by position. Texts are held in memory, pictures are not.

    Args:
        data: see :func:`data_format`.
        split: for example ``"test"``.
        limit: keep only the first records.

    Raises:
        DataError: the data or the split is missing, broken or empty; or it is a stream and has no ``limit``.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1, got {limit}.")
    kind = data_format(data)
    if kind == "webdataset" and limit is None:
        raise DataError("Shards are a stream, too large to hold: give a limit, or use stream_records.")
    records: Sequence[Record]
    if kind == "hub":
        records = HubRecords.open(data, split, limit)
    else:
        records = list(islice(FORMATS[kind](data, split), limit))
        _check_ids(records, f"{data} ({split})")
    return RecordDataset(records, f"{data} ({split})")


def stream_records(data: str | Path, split: str, limit: int | None = None) -> Iterator[Record]:
    """Yield the records of a split one by one, holding none; arguments and errors as :func:`load_records`."""
    return islice(FORMATS[data_format(data)](data, split), limit)


def _folder_format(folder: Path) -> str:
    if any(folder.glob(f"*/{METADATA}")):
        return "imagefolder"
    if any(path.suffix.lower() in _PICTURES for path in folder.glob("*/*/*")):
        return "hub"
    tables = [*folder.rglob("*.parquet"), *folder.rglob("*.arrow")]
    if tables:
        return "hub"
    if any(folder.glob("*.jsonl")):
        return "snli-ve"
    return "imagefolder"  # its error says what a folder must hold


def _check_ids(records: Sequence[Record], name: str) -> None:
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise DataError(f"{name}: two records share the id {record.id!r}; each picture has one record.")
        seen.add(record.id)
