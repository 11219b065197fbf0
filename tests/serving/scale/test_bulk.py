"""Bulk embedding: the parts of a collection, made by the worker that Ray Data runs."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.engine import Engine
from vlkd_serving.loading import model_source
from vlkd_serving.scale.bulk import BulkSettings, PartEmbedder, embed_in_bulk, jobs_of_folder, jobs_of_shards
from vlkd_serving.settings import ServerSettings


class LocalRay:
    """``ray.data`` as far as it is used, in this process; rows are JSON as they would be in another."""

    def __init__(self, only: int | None = None) -> None:
        self.data = SimpleNamespace(ActorPoolStrategy=lambda **_: None, from_items=self._from_items)
        self._only = only
        self.made: list[int] = []

    def _from_items(self, rows: list[dict[str, Any]], **_: Any) -> Any:
        return SimpleNamespace(map=lambda kind, fn_constructor_args, **_: self._map(kind(*fn_constructor_args), rows))

    def _map(self, worker: PartEmbedder, rows: list[dict[str, Any]]) -> Any:
        def iterate() -> Any:
            for row in rows[: self._only]:
                self.made.append(json.loads(row["job"])["number"])
                yield worker(row)

        return SimpleNamespace(iter_rows=iterate)


@pytest.fixture
def album(tmp_path: Path, picture_bytes: Callable[..., bytes]) -> Path:
    """Eleven different pictures, one that is broken, and what is said of one."""
    folder = tmp_path / "album"
    folder.mkdir()
    for n in range(11):
        content = picture_bytes((20 * n, 255 - 20 * n, 7 * n), "JPEG" if n % 2 else "PNG", (40 + n, 30))
        (folder / f"{n:02d}.{'jpg' if n % 2 else 'png'}").write_bytes(content)
    (folder / "05b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(10))
    (folder / "metadata.jsonl").write_text('{"file_name": "03.jpg", "class": "beach"}\n')
    return folder


def engine_vectors(bundle: Path, folder: Path, names: list[str]) -> np.ndarray:
    """What `vlkd serve` answers for these pictures."""
    import asyncio

    async def main() -> np.ndarray:
        engine = Engine([model_source("m", bundle, 1)], ServerSettings())
        await engine.start()
        found = await engine.embed_pictures([(folder / name).read_bytes() for name in names])
        await engine.stop()
        return np.stack([each.embedding for each in found])

    return asyncio.run(main())


def test_vectors_are_those_of_the_engine(tmp_path: Path, tiny_bundle: Path, album: Path) -> None:
    """And ids, metadata and what could not be read are kept beside them."""
    settings = BulkSettings(bundle=str(tiny_bundle), out=str(tmp_path / "parts"))
    report = embed_in_bulk(LocalRay(), settings, jobs_of_folder(album, 5))
    assert (report.made, report.kept, report.rows) == (3, 0, 11)
    assert [item_id for item_id, _ in report.skipped] == ["05b.png"] and "damaged" in report.skipped[0][1]
    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "parts").glob("*.jsonl"))
        for line in path.read_text().split("\n")
        if line
    ]
    assert [line["id"] for line in lines] == sorted(path.name for path in album.glob("[0-9][0-9].*"))
    assert lines[3] == {"id": "03.jpg", "path": "03.jpg", "class": "beach"}
    found = np.concatenate([np.load(path) for path in sorted((tmp_path / "parts").glob("*.npy"))])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, engine_vectors(tiny_bundle, album, [line["id"] for line in lines]), atol=1e-6)


def test_whole_parts_are_left_alone(tmp_path: Path, tiny_bundle: Path, album: Path) -> None:
    """A run that was broken off, a part that was damaged, a picture that changed: only these are made."""
    settings = BulkSettings(bundle=str(tiny_bundle), out=str(tmp_path / "parts"))
    jobs = jobs_of_folder(album, 3)
    broken_off = LocalRay(only=2)
    embed_in_bulk(broken_off, settings, jobs)
    assert broken_off.made == [0, 1]
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    goes_on, told = LocalRay(), []
    report = embed_in_bulk(goes_on, settings, jobs, told.append)
    assert goes_on.made == [2, 3] and (report.kept, report.made, report.rows) == (2, 2, 11) and told == [2, 1, 1]
    assert {name: (tmp_path / "parts" / name).stat().st_mtime_ns for name in times} == times
    (tmp_path / "parts" / "part-000001.npy").write_bytes(b"")
    os.utime(album / "10.png", ns=(1, 1))
    again = LocalRay()
    embed_in_bulk(again, settings, jobs_of_folder(album, 3))
    assert again.made == [1, 3]
    idle = LocalRay()
    assert embed_in_bulk(idle, settings, jobs_of_folder(album, 3)).made == 0 and idle.made == []


def test_shards_are_parts(tmp_path: Path, tiny_bundle: Path, album: Path) -> None:
    """One part a tar; the worker looks inside, the plan does not."""
    paths = []
    for number in range(2):
        path = tmp_path / f"shard-{number}.tar"
        with tarfile.open(path, "w") as archive:
            for name in ("00.png", "01.jpg") if number == 0 else ("02.png",):
                archive.add(album / name, name)
                said = json.dumps({"class": name[:2]}).encode()
                member = tarfile.TarInfo(f"{name[:2]}.json")
                member.size = len(said)
                archive.addfile(member, io.BytesIO(said))
        paths.append(path)
    settings = BulkSettings(bundle=str(tiny_bundle), out=str(tmp_path / "parts"))
    jobs = jobs_of_shards(paths)
    assert all("items" not in str(asdict(job)) or job.items == () for job in jobs)
    report = embed_in_bulk(LocalRay(), settings, jobs)
    assert (report.made, report.rows) == (2, 3)
    found = np.concatenate([np.load(path) for path in sorted((tmp_path / "parts").glob("*.npy"))])
    expected = engine_vectors(tiny_bundle, album, ["00.png", "01.jpg", "02.png"])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    first = json.loads((tmp_path / "parts" / "part-000000.jsonl").read_text().split("\n")[0])
    assert first["id"] == "shard-0/00" and first["class"] == "00"


def test_plans_that_cannot_be() -> None:
    """Told before anything starts."""
    with pytest.raises(InvalidInputError, match="at least 1 picture, got 0"):
        jobs_of_folder(Path(), 0)
    with pytest.raises(InvalidInputError, match="same file name"):
        jobs_of_shards([Path("a/0.tar"), Path("b/0.tar")])
    with pytest.raises(InvalidInputError, match="got 0 and 1"):
        BulkSettings(bundle="b", out="o", workers=0)
