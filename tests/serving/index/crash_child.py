"""Run as a script: each case in a child process that is killed at its point. Prints the exit status of each case.

A case is ``{"directory", "seed", "point", "nth", "codec"}``; ``<directory>.confirmed`` gets a byte a
confirmed change.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import disks
import workload

from vlkd_serving.index import Budget, fsio


def run_case(case: dict[str, Any]) -> None:
    """In the child: make the changes on a disk that kills."""
    log = os.open(f"{case['directory']}.confirmed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    fsio.disk = disks.KillingDisk(case["point"], case["nth"])
    budget = Budget(kind="flat", codec=case["codec"], recall=0.1)
    made = workload.changes(case["seed"])
    workload.run(Path(case["directory"]), made, budget, lambda number: os.write(log, b"."))


def main() -> None:
    """Fork for each case: the imports are paid once. No thread is running here, so a fork is safe."""
    for case in json.loads(sys.stdin.read()):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run_case(case)
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


if __name__ == "__main__":
    main()
