"""Embed a large collection in parts, with a pool of workers on Ray Data; parts that are whole are left alone."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index.build import embed_pictures, read_from
from vlkd_serving.index.items import Item
from vlkd_serving.index.parts import PartRecord, whole_part, write_part
from vlkd_serving.index.scan import scan_folder
from vlkd_serving.index.shards import ShardReader, scan_shards

__all__ = ["BulkReport", "BulkSettings", "Job", "PartEmbedder", "embed_in_bulk", "jobs_of_folder", "jobs_of_shards"]

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Job:
    """One part to be made: some pictures of a folder, or all those of one WebDataset shard.

    Args:
        number: of the part.
        source: SHA-256 of names, sizes and times of what it is made of.
        root: folder of the pictures, or None.
        items: (id, path, metadata) of the pictures of a folder.
        shard: the tar file, or None.
    """

    number: int
    source: str
    root: str | None = None
    items: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    shard: str | None = None


@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """How a collection is embedded.

    Args:
        bundle: at the same path on every machine.
        out: folder of the parts, which every machine sees.
        workers: processes, each with the model.
        threads: of one inference, and processors that Ray sets aside for a worker.
    """

    bundle: str
    out: str
    workers: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1 or self.threads < 1:
            raise InvalidInputError(f"workers and threads must be at least 1, got {self.workers} and {self.threads}.")


@dataclass(frozen=True)
class BulkReport:
    """What was done: parts found whole, parts made now, vectors in all of them, and what could not be read."""

    kept: int
    made: int
    rows: int
    skipped: list[tuple[str, str]]


def jobs_of_folder(root: Path, size: int) -> list[Job]:
    """Parts of ``size`` pictures of a folder, in the order of their paths.

    Raises:
        DataError: as :func:`scan_folder`.
        InvalidInputError: a size below 1.
    """
    if size < 1:
        raise InvalidInputError(f"A part holds at least 1 picture, got {size}.")
    items = scan_folder(root)
    return [
        _folder_job(number, root, items[start : start + size])
        for number, start in enumerate(range(0, len(items), size))
    ]


def jobs_of_shards(shards: Sequence[Path]) -> list[Job]:
    """One part a WebDataset shard; what is inside is looked at by the worker that gets it."""
    if len({shard.name for shard in shards}) < len(shards):
        raise InvalidInputError("Two shards have the same file name, which is the beginning of their pictures' ids.")
    return [
        Job(number=number, source=_source([shard]), shard=str(shard.absolute())) for number, shard in enumerate(shards)
    ]


def embed_in_bulk(
    ray: Any, settings: BulkSettings, jobs: Sequence[Job], progress: Callable[[int], None] = lambda done: None
) -> BulkReport:
    """Make the parts that are not whole.

    A worker that dies is started again with the part it had.

    Args:
        ray: the module, connected; see :func:`vlkd_serving.scale.cluster.ray_cluster`.
        settings: where from, where to, how many workers.
        jobs: every part of the collection.
        progress: called with the number of parts done since the last call.
    """
    out, fingerprint = Path(settings.out), read_manifest(Path(settings.bundle)).fingerprint
    out.mkdir(parents=True, exist_ok=True)
    whole = {job.number: whole_part(out, job.number, job.source, fingerprint) for job in jobs}
    records = [record for record in whole.values() if record is not None]
    progress(len(records))
    missing = [job for job in jobs if whole[job.number] is None]
    made = 0
    for record in _run(ray, settings, missing) if missing else ():
        records.append(record)
        made += 1
        progress(1)
    skipped = [each for record in records for each in record.skipped]
    return BulkReport(len(records) - made, made, sum(record.rows for record in records), skipped)


class PartEmbedder:
    """A worker: holds the model and makes one part a call.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: BulkSettings) -> None:
        from vlkd_serving.runtime import OnnxStudent

        self._out = Path(settings.out)
        self._student = OnnxStudent.from_pretrained(
            settings.bundle, threads=settings.threads, graphs=("image_encoder",)
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """``{"job": JSON}`` -> ``{"record": JSON}``; the part is on disk by then."""
        job = Job(**json.loads(row["job"]))
        items, read = _pictures_of(job)
        found = embed_pictures(items, self._student, read, _BATCH, lambda done: None)
        manifest = self._student.manifest
        record = write_part(
            self._out,
            job.number,
            found,
            source=job.source,
            fingerprint=manifest.fingerprint,
            dim=manifest.embedding_dim,
        )
        return {"record": json.dumps(asdict(record))}


def _run(ray: Any, settings: BulkSettings, jobs: Sequence[Job]) -> Iterator[PartRecord]:
    rows = [{"job": json.dumps(asdict(job))} for job in jobs]
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    pool = ray.data.ActorPoolStrategy(size=min(settings.workers, len(jobs)), max_tasks_in_flight_per_actor=1)
    made = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        PartEmbedder, fn_constructor_args=(settings,), compute=pool, num_cpus=settings.threads
    )
    for row in made.iter_rows():
        yield PartRecord(**json.loads(row["record"]))


def _pictures_of(job: Job) -> tuple[list[Item], Callable[[Item], bytes]]:
    if job.shard is not None:
        return scan_shards([Path(job.shard)]), ShardReader([Path(job.shard)])
    items = [Item(id=item_id, path=path, metadata=metadata) for item_id, path, metadata in job.items]
    return items, read_from(Path(job.root or ""))


def _folder_job(number: int, root: Path, items: Sequence[Item]) -> Job:
    named = tuple((item.id, item.path or "", item.metadata) for item in items)
    said = json.dumps([metadata for _, _, metadata in named], sort_keys=True)
    source = _source([root / path for _, path, _ in named], said)
    return Job(number=number, source=source, root=str(root.absolute()), items=named)


def _source(files: Sequence[Path], said: str = "") -> str:
    """Identity of some files: their names, sizes and times."""
    digest = hashlib.sha256(said.encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
