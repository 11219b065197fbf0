"""On a Ray cluster of this machine: replicas are killed under load and nothing admitted is lost."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkd_serving.bench_serve.load import Connection, build_request
from vlkd_serving.bench_serve.processes import free_port
from vlkd_serving.index import IndexReader
from vlkd_serving.index.build import build_index
from vlkd_serving.index.parts import PartSet
from vlkd_serving.index.reshape import split
from vlkd_serving.index.scan import scan_folder
from vlkd_serving.loading import load_model

pytestmark = pytest.mark.slow

CLIENTS = 12
LOAD_S = 12.0
STOPPED_S = 1.0
START_S = 300.0
"""Longest start of a cluster, on a machine with other work."""


@pytest.fixture(scope="module")
def ray() -> None:
    """Skips where the extra is not installed."""
    pytest.importorskip("ray", reason="needs the extra: scale")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    """A folder with pictures, an index of them and its two shards."""
    root = tmp_path_factory.mktemp("cluster")
    (root / "pictures").mkdir()
    generator = np.random.default_rng(3)
    for n in range(24):
        small = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((320, 240), Image.Resampling.BICUBIC).save(root / "pictures" / f"{n:02d}.jpg")
    loaded = load_model(tiny_bundle, 1)
    items = scan_folder(root / "pictures")
    build_index(root / "whole", loaded.student, loaded.fingerprint, items, root / "pictures")
    split(root / "whole", [root / "shard-0", root / "shard-1"])
    return root


@dataclass
class Cluster:
    """`vlkd scale serve` in a process of its own, and the Ray cluster that it started."""

    url: str
    process: subprocess.Popen[bytes]
    logs: Path
    mark: str

    def replicas(self, deployment: str) -> list[int]:
        """Process ids of a deployment's replicas; those of other clusters do not have the mark."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                title, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if title.startswith(f"ray::ServeReplica:vlkd:{deployment}".encode()) and self.mark.encode() in environment:
                found.append(int(entry.name))
        return found

    def resent(self) -> int:
        """How many calls have met a dead replica, by the logs: under way in it, or on the way, which Serve tells."""
        texts = [path.read_text(errors="replace") for path in self.logs.rglob("*") if path.suffix in (".err", ".log")]
        return sum(text.count("its replica died") + text.count("because it has died") for text in texts)


def run_vlkd(folder: Path, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    """A command with its output in ``folder/log``."""
    command = [sys.executable, "-m", "vlkd_hub.cli", *map(str, arguments)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)


@pytest.fixture(scope="module")
def cluster(ray: None, collection: Path, tiny_bundle: Path) -> Iterator[Cluster]:
    """Two encoders, two decoders, two replicas of each of two shards, one ingress."""
    port = free_port()
    shards = ["--shard", collection / "shard-0", "--shard", collection / "shard-1"]
    counts = ["--encoders", 2, "--decoders", 2, "--searchers", 2]
    with tempfile.TemporaryDirectory(prefix="vlkd-") as short:  # Ray's sockets lie in it, and their paths are bounded
        command = ["scale", "serve", "--model", tiny_bundle, *shards, "--port", port, *counts]
        mark = f"VLKD_TEST={short}"
        process = run_vlkd(collection, *command, RAY_TMPDIR=short, VLKD_TEST=short)
        until = time.monotonic() + START_S
        try:
            while b"Ready at" not in (log := (collection / "log").read_bytes()):
                assert process.poll() is None and time.monotonic() < until, log.decode()[-3000:]
                time.sleep(0.5)
            yield Cluster(f"http://127.0.0.1:{port}", process, Path(short), mark)
            process.terminate()
            assert process.wait(180) == 0, (collection / "log").read_text()[-3000:]
        finally:
            process.kill()
            process.wait()


def ask(url: str, path: str, body: dict[str, Any]) -> Any:
    """A JSON request, its answer without what differs from run to run."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    found.pop("latency_ms", None)
    return found


def test_the_cluster_answers_as_one_server(cluster: Cluster, collection: Path, tiny_bundle: Path) -> None:
    """Every kind of request over HTTP, held against the engine's own answers in this process."""
    student = load_model(tiny_bundle, 1).student
    path = collection / "pictures" / "07.jpg"
    picture, image = base64.b64encode(path.read_bytes()).decode(), Image.open(path).convert("RGB")
    assert ask(cluster.url, "/v1/caption", {"image": picture})["caption"] == student.caption([image])[0]
    answer = ask(cluster.url, "/v1/vqa", {"image": picture, "question": "what color is it?"})["answer"]
    assert answer == student.answer([image], ["what color is it?"])[0]
    inputs = ["a red circle", f"data:image/jpeg;base64,{picture}"]
    vectors = [each["embedding"] for each in ask(cluster.url, "/v1/embeddings", {"input": inputs})["data"]]
    expected = np.concatenate([student.embed_texts(inputs[:1]), student.embed_images([image])])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    whole = IndexReader.open(collection / "whole")
    for vector, query in ((expected[0], {"text": inputs[0]}), (expected[1], {"image": picture})):
        found = ask(cluster.url, "/v1/search", {**query, "k": 15})["results"]
        hits = whole.search(vector, 15)
        assert [each["id"] for each in found] == [hit.item.id for hit in hits]
        np.testing.assert_allclose([each["score"] for each in found], [hit.score for hit in hits], atol=2e-6)


@pytest.mark.parametrize("deployment", ["encoder", "decoder", "index-1"])
def test_nothing_is_lost_when_a_replica_is_killed(cluster: Cluster, collection: Path, deployment: str) -> None:
    """SIGKILL to one of two replicas in the middle of the load: every request is answered, with 200."""
    before, resent = cluster.replicas(deployment), cluster.resent()
    assert len(before) == 2
    statuses = asyncio.run(load_and_kill(cluster, collection, before[0]))
    assert set(statuses) == {200} and statuses[200] > 10 * CLIENTS, statuses
    assert cluster.resent() > resent, "no call was under way in the replica when it was killed: the test shows nothing"
    until = time.monotonic() + START_S
    while len(cluster.replicas(deployment)) < 2:  # Serve starts another
        assert time.monotonic() < until
        time.sleep(0.5)


async def load_and_kill(cluster: Cluster, collection: Path, victim: int) -> Counter[int]:
    """Captions and searches by different pictures from many clients, and the kill."""
    pictures = [path.read_bytes() for path in sorted((collection / "pictures").glob("*.jpg"))]
    bodies = [{"image": base64.b64encode(content).decode()} for content in pictures]
    requests = [
        build_request(cluster.url, route, json.dumps(body).encode(), "application/json")
        for body in bodies
        for route in ("/v1/caption", "/v1/search")
    ]
    statuses: Counter[int] = Counter()
    end = time.monotonic() + LOAD_S

    async def client(number: int) -> None:
        connection, turn = Connection(cluster.url), number
        while time.monotonic() < end:
            statuses[await connection.ask(requests[turn % len(requests)])] += 1
            turn += CLIENTS
        connection.close()

    async def kill() -> None:
        await asyncio.sleep(LOAD_S / 3)
        os.kill(victim, signal.SIGSTOP)  # so that calls gather in it
        await asyncio.sleep(STOPPED_S)
        os.kill(victim, signal.SIGKILL)

    await asyncio.gather(kill(), *(client(number) for number in range(CLIENTS)))
    return statuses


def test_bulk_embedding_survives_a_kill(ray: None, tmp_path: Path, collection: Path, tiny_bundle: Path) -> None:
    """The run is killed with every process of it; the next one makes only what is missing."""
    parts = tmp_path / "parts"
    command = ["scale", "embed", parts, "--model", tiny_bundle, "--images", collection / "pictures", "--part-size", 2]
    with tempfile.TemporaryDirectory(prefix="vlkd-") as short:
        broken = run_vlkd(tmp_path, *command, RAY_TMPDIR=short)
        until = time.monotonic() + START_S
        while len(list(parts.glob("part-*.json"))) < 2:
            assert broken.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.02)
        broken.kill()
        broken.wait()
    with tempfile.TemporaryDirectory(prefix="vlkd-") as short:
        again = run_vlkd(tmp_path, *command, RAY_TMPDIR=short)
        assert again.wait(START_S) == 0, (tmp_path / "log").read_text()[-3000:]
    words = (tmp_path / "log").read_text()
    found = re.search(r"(\d+) parts made, (\d+) were whole: 24 vectors", words)
    assert found is not None and int(found[1]) + int(found[2]) == 12 and int(found[2]) >= 2, words[-500:]
    vectors = np.concatenate(list(PartSet(parts).blocks()))
    expected = IndexReader.open(collection / "whole").vectors()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
