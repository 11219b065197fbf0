"""A process killed at any moment, a power cut, a full or broken disk: confirmed changes are there, whole."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vlkd_hub.errors import VlkdError
from vlkd_serving.index import Budget, IndexWriteError, fsio

Record = Callable[[str, object], None]
POINTS = [
    *("temporary made", "vectors 25 %", "vectors 75 %", "before fsync", "after fsync", "between files"),
    *("mid-manifest", "before replace", "after replace", "mid-collection"),
    *("record torn", "record before fsync", "record after fsync", "segment made"),
]


def test_the_points_are_all_of_them(disks: ModuleType) -> None:
    """Ten of a generation's commit, four of the log's."""
    assert list(disks.NAMED_POINTS) + list(disks.LOG_POINTS) == POINTS and len(disks.NAMED_POINTS) == 10


def test_killed_at_every_point(tmp_path: Path, workload: ModuleType, nightly: bool, record_property: Record) -> None:
    """SIGKILL, 14 points x 2 (x 30 nightly): the state is that of the last confirmed change, or of the next one."""
    cases = [
        {
            "directory": str(tmp_path / f"{point}-{seed}"),
            "seed": seed,
            "point": point,
            "nth": 1 + seed % 3,
            "codec": ["fp32", "int8"][seed % 2],
        }
        for point in POINTS
        for seed in range(30 if nightly else 2)
    ]
    script = Path(__file__).parent / "crash_child.py"
    done = subprocess.run([sys.executable, script], input=json.dumps(cases), capture_output=True, text=True)
    statuses = [int(line) for line in done.stdout.split()]
    assert done.returncode == 0 and len(statuses) == len(cases), done.stderr
    killed = dict.fromkeys(POINTS, 0)
    for case, status in zip(cases, statuses, strict=True):
        assert status in (0, -9), (case, done.stderr)
        killed[str(case["point"])] += status == -9
        directory = Path(str(case["directory"]))
        confirmed = len(Path(f"{directory}.confirmed").read_bytes())
        made = workload.changes(case["seed"])
        states = workload.states(made)
        assert workload.content_of(directory) in states[confirmed : confirmed + 2], case
        budget = Budget(kind="flat", codec=case["codec"], recall=0.1)
        for change in made[confirmed:]:  # and the index goes on from there
            workload.repeat(directory, change, budget)
        assert workload.content_of(directory) == states[-1], case
    assert all(killed.values()), killed
    record_property("kills", sum(killed.values()))
    record_property("fewest_at_a_point", min(killed.values()))


@pytest.mark.parametrize("codec", ["fp32", "int8"])
def test_power_cut_at_every_call(
    tmp_path: Path,
    codec: str,
    workload: ModuleType,
    disks: ModuleType,
    nightly: bool,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Record,
) -> None:
    """What was not synced is gone, or half there: after each disk call of nine changes, in three ways."""
    rng, cuts = np.random.default_rng(0), 0
    for seed in range(30 if nightly else 1):
        root = tmp_path / f"live-{seed}"
        root.mkdir()
        disk = disks.ForgetfulDisk(root)
        with monkeypatch.context() as patch:
            patch.setattr(fsio, "disk", disk)
            made = workload.changes(seed)
            budget = Budget(kind="flat", codec=codec, recall=0.1)
            workload.run(root, made, budget, lambda number, disk=disk: setattr(disk, "confirmed", number))
        states = workload.states(made)
        assert len(disk.moments) > 100
        for number, moment in enumerate(disk.moments):
            for mode in ("nothing", "names", "some"):
                left = tmp_path / f"left-{codec}-{seed}-{number}-{mode}"
                left.mkdir()
                cuts += 1
                disk.after_power_cut(moment, left, mode, rng)
                found = workload.content_of(left)
                assert found in states[moment.confirmed : moment.confirmed + 2], (number, mode)
                shutil.rmtree(left)
    record_property(f"power_cuts_{codec}", cuts)


@pytest.mark.parametrize(("error", "until_told"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_failing_disk(
    tmp_path: Path,
    error: int,
    until_told: bool,
    workload: ModuleType,
    disks: ModuleType,
    nightly: bool,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Record,
) -> None:
    """Each disk call fails once: one clear error, confirmed changes stay, and once mended all goes on."""
    budget, made = Budget(kind="flat", codec="int8", recall=0.1), workload.changes(3)
    states, told, nth = workload.states(made), 0, 0
    while True:
        nth += 1 if nightly or nth < 8 else 3
        directory = tmp_path / f"{error}-{nth}"
        disk = disks.FailingDisk(nth, error, until_told)
        monkeypatch.setattr(fsio, "disk", disk)
        for number, change in enumerate(made):
            try:
                workload.perform(directory, change, budget)
            except VlkdError as failure:
                assert isinstance(failure, IndexWriteError) and "confirmed before is safe" in str(failure), failure
                told += 1
                disk.mend()
                assert workload.content_of(directory) in states[number : number + 2]
                workload.repeat(directory, change, budget)
            assert workload.content_of(directory) == states[number + 1], (nth, change)
        if not disk.failed:
            break
    assert told > 25 and nth > 100
    record_property(f"{errno.errorcode[error]}_errors_told", told)


def test_a_full_disk_leaves_no_rubbish(
    tmp_path: Path, workload: ModuleType, disks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a generation would keep the disk full."""
    made = workload.changes(0)
    workload.perform(tmp_path, made[0], Budget())
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(fsio, "disk", disks.FailingDisk(9, errno.ENOSPC, True))
    with pytest.raises(IndexWriteError, match="No space left"):
        workload.perform(tmp_path, made[0], Budget())
    assert sorted(tmp_path.rglob("*")) == before
