"""Processor time of one request, deployment by deployment, of a running ``vlkd scale serve`` (or ``vlkd serve``).

    vlkd scale serve --model BUNDLE --shard SHARD-0 --shard SHARD-1 &
    python benchmarks/scale_cpu.py http://127.0.0.1:8000 --pictures FOLDER

Processor time hardly depends on what else the machine does, so that it can be added up to a plan; latencies do.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import time
from collections import defaultdict
from pathlib import Path

from vlkd_serving.bench_serve.load import Connection, build_request, percentile

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
REPLICA = "ray::ServeReplica:vlkd:"
OTHERS = {"ray::ProxyActor": "proxy", "ray::ServeController": "controller", "/raylet/raylet": "raylet"}


def label(title: str) -> str | None:
    """What a process of this title is called here; None for a stranger."""
    if title.startswith(REPLICA):
        return title.removeprefix(REPLICA).split()[0].split(".")[0]
    if "vlkd serve " in title:
        return "vlkd serve"
    return next((name for part, name in OTHERS.items() if part in title), None)


def cpu_seconds() -> dict[str, float]:
    """Label -> processor time so far of the processes that have it."""
    spent: dict[str, float] = defaultdict(float)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if (name := label(title)) is not None:
            spent[name] += (int(fields[11]) + int(fields[12])) * TICK_S
    return spent


async def load(url: str, requests: list[bytes], clients: int, count: int) -> list[float]:
    """Ask ``count`` times from ``clients`` connections; the seconds of each answer."""
    seconds: list[float] = []
    turns = iter(range(count))

    async def client() -> None:
        connection = Connection(url)
        for turn in turns:
            begin = time.perf_counter()
            status = await connection.ask(requests[turn % len(requests)])
            assert status == 200, status
            seconds.append(time.perf_counter() - begin)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


def main() -> None:
    """Print one line for each kind of request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of JPEG files, three for each request")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=8)
    args = parser.parse_args()
    files = sorted(args.pictures.rglob("*.jpg"))
    count = min(args.requests + 8, len(files) // 3)  # the first eight are for warming up
    encoded = iter([base64.b64encode(path.read_bytes()).decode() for path in files[: 3 * count]])
    kinds: dict[str, tuple[str, list[dict[str, str]]]] = {  # no picture twice: its encoding would be kept
        "search by text": ("/v1/search", [{"text": f"{n} people in the street"} for n in range(count)]),
        "search by picture": ("/v1/search", [{"image": next(encoded)} for _ in range(count)]),
        "embedding of a picture": (
            "/v1/embeddings",
            [{"input": f"data:image/jpeg;base64,{next(encoded)}"} for _ in range(count)],
        ),
        "caption": ("/v1/caption", [{"image": next(encoded)} for _ in range(count)]),
    }
    for kind, (route, bodies) in kinds.items():
        requests = [build_request(args.url, route, json.dumps(body).encode(), "application/json") for body in bodies]
        asyncio.run(load(args.url, requests[:8], args.clients, 8))
        requests = requests[8:]
        before, begin = cpu_seconds(), time.perf_counter()
        seconds = asyncio.run(load(args.url, requests, args.clients, len(requests)))
        wall, after = time.perf_counter() - begin, cpu_seconds()
        each = {name: (after[name] - before.get(name, 0.0)) / len(requests) * 1000 for name in sorted(after)}
        shown = ", ".join(f"{name} {ms:.2f}" for name, ms in each.items() if ms >= 0.005)
        print(f"{kind}: {sum(each.values()):.2f} ms of processor time a request ({shown})")
        print(f"  {len(requests) / wall:.1f}/s, p50 {percentile(seconds, 0.5) * 1000:.1f} ms, {args.clients} clients")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
