"""Runs steps as child processes and remembers which are done, so a second call goes on where the first one stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import typer
from rich.console import Console

from vlkd_hub._version import __version__
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.quickstart.plan import Step

__all__ = ["Runner"]

MARKERS = ".done"
INTERRUPTED = 130
# A training step frees and asks again for some hundred MiB. By default glibc gives such blocks back to the system each
# time and the page faults cost a quarter of the step; kept, and in huge pages, they do not. Read by glibc alone.
_MALLOC = {"hugetlb": 1, "mmap_threshold": 8 << 30, "trim_threshold": 16 << 30, "top_pad": 256 << 20}
_KEEP_MEMORY = ":".join(f"glibc.malloc.{name}={value}" for name, value in _MALLOC.items())


class Runner:
    """Runs steps in one work folder.

    A step is skipped when its marker says that the same command line, of the same version of this package, already
    ran on the output of the same runs of the steps it needs, and its own output is still there. A training step that
    was interrupted goes on inside, from its last checkpoint.

    Args:
        folder: the work folder; made if absent.
        console: where titles and command lines go. The children write to this process's own stdout and stderr.

    Raises:
        InvalidInputError: ``folder`` holds something, and no quickstart put it there.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError(f"{folder} is a file; give a folder with --dir.")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKERS).is_dir():
            raise InvalidInputError(
                f"{folder} holds files that no quickstart made, and quickstart deletes what it writes over. "
                f"Give another folder with --dir."
            )
        self.folder = folder
        self.console = console
        (folder / MARKERS).mkdir(parents=True, exist_ok=True)

    def run(self, step: Step) -> float:
        """Run ``step``, or skip it.

        Returns:
            Seconds that it took, now or when it ran.

        Raises:
            typer.Exit: the child failed; the code is the child's.
        """
        key = self._key(step)
        done = self._marker(step.name)
        ended = done.get("key") == key and "ended" in done
        if ended and all(path.exists() for path in step.outputs):
            self.console.print(f"already done ({done['seconds']:.0f} s)", style="dim")
            return float(done["seconds"])
        resume = step.resumes and not ended and done.get("key") == key
        if not resume:
            self._marker_path(step.name).unlink(missing_ok=True)
            for path in step.outputs:
                _remove(path)
            self._write_marker(step.name, {"key": key})
        start = time.monotonic()
        code = self._child(step, ("--resume",) if resume else ())
        seconds = time.monotonic() - start
        absent = [str(path) for path in step.outputs if not path.exists()]
        if code == 0 and absent:
            self.console.print(f"The step ended well but did not write {', '.join(absent)}.", style="red")
            code = 1
        if code != 0:
            self.console.print(
                f"Step '{step.name}' stopped with exit code {code} after {seconds:.0f} s. The steps before it are "
                f"kept: type `vlkd quickstart --dir {shlex.quote(str(self.folder))}` to go on from here.",
                style="red",
            )
            raise typer.Exit(code)
        marker = {"key": key, "command": step.line, "version": __version__, "seconds": seconds, "ended": time.time()}
        self._write_marker(step.name, marker)
        return seconds

    def forget(self, steps: list[Step]) -> None:
        """Delete the markers and the output of ``steps``."""
        for step in steps:
            self._marker_path(step.name).unlink(missing_ok=True)
            for path in step.outputs:
                _remove(path)

    def _child(self, step: Step, extra: tuple[str, ...]) -> int:
        line = " ".join([step.line, *extra])
        self.console.print(f"$ {line}", style="bold", markup=False, highlight=False, soft_wrap=True)
        # Everything the quickstart needs is in the packages; without this a slow network could hold it up.
        environment = {"GLIBC_TUNABLES": _KEEP_MEMORY, **os.environ, "HF_HUB_OFFLINE": "1"}
        environment["TOKENIZERS_PARALLELISM"] = "false"
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(step.stdout.open("wb")) if step.stdout else None
            command = [sys.executable, "-m", "vlkd_hub.cli", *step.args, *extra]
            child = stack.enter_context(subprocess.Popen(command, env=environment, stdout=out))
            try:
                return child.wait()
            except KeyboardInterrupt:
                # The terminal sent it to the child too.
                child.wait()
                return INTERRUPTED

    def _key(self, step: Step) -> str:
        """Changes when the command line, the version, or a run that this step builds on changes."""
        ended = {name: self._marker(name).get("ended") for name in step.needs}
        facts = {"command": step.line, "version": __version__, "needs": ended}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _marker_path(self, name: str) -> Path:
        return self.folder / MARKERS / f"{name}.json"

    def _write_marker(self, name: str, marker: dict[str, object]) -> None:
        self._marker_path(name).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")

    def _marker(self, name: str) -> dict[str, float | str]:
        try:
            marker = json.loads(self._marker_path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return marker if isinstance(marker, dict) else {}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
