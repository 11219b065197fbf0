"""The long reliability runs, part by part: ``python tests/nightly.py [PART ...] [--again] [--out FOLDER]``.

Each part is a pytest run of its own. When it ends, its figures are written beside it, so that a run that was stopped
goes on where it stopped, and parts may be run one by one. A part counts for one commit only. At the end, and with
``--report`` at any time, ``report.md`` is made of what there is; a part that failed, or of which a test was skipped, is
named as such.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LONG = {"VLKD_NIGHTLY": "1"}


@dataclass(frozen=True)
class Part:
    """What is run: arguments of pytest, and the environment that makes the run a long one."""

    what: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """As a person would type it."""
        set_first = [f"{name}={value}" for name, value in self.environment.items()]
        return " ".join([*set_first, "pytest", shlex.join(self.arguments)])


SLOW = ("-m", "slow")
PARTS = {
    "overload": Part("4x overload for 2 minutes", (*SLOW, "tests/serving/reliability/test_overload.py"), LONG),
    "sigterm": Part("SIGTERM under load x 20", (*SLOW, "tests/serving/reliability/test_sigterm.py"), LONG),
    "saves": Part("killed x 30 while saving", (*SLOW, "tests/training/test_kill_during_save.py")),
    "verbs": Part("verbs killed, resumed, on two processes", (*SLOW, "tests/training/test_verbs.py")),
    "hostile": Part("damaged and forged index files", ("tests/serving/index/test_hostile.py",), LONG),
    "flips": Part("bytes of a bundle flipped", ("tests/hub/safety/test_byte_flips.py",), {"VLKD_FLIPS": "5000"}),
    "kills": Part("index killed at every point x 30", ("tests/serving/index/test_crash.py", "-k", "killed"), LONG),
    "disks": Part(
        "power cuts, full and failing disks", ("tests/serving/index/test_crash.py", "-k", "not killed"), LONG
    ),
    "readers": Part(
        "16 readers and a writer for 10 minutes",
        ("tests/serving/index/test_live.py",),
        {"VLKD_RACE_SECONDS": "600"},
    ),
    "scale": Part("replicas of a Ray cluster killed under load", (*SLOW, "tests/serving/scale")),
    "fuzz": Part("10,000 requests an endpoint", (*SLOW, "tests/serving/reliability/test_fuzz.py"), LONG),
}


def main(line: list[str] | None = None) -> int:
    """Run the parts named, or all; 0 where every one of them passed whole."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--again", action="store_true", help="run parts that passed on this commit again")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the report")
    parser.add_argument("--out", type=Path, default=ROOT / ".nightly", help="where the figures are kept")
    chosen = parser.parse_args(line)
    unknown = sorted(set(chosen.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    names, commit = chosen.parts or list(PARTS), present_commit()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in [] if chosen.report else names:
        before = kept(chosen.out, name)
        if chosen.again or before is None or not passed(before) or before["commit"] != commit:
            run(name, chosen.out, commit)
    found = {name: kept(chosen.out, name) for name in PARTS}
    (chosen.out / "report.md").write_text(report(found), encoding="utf-8")
    print(report(found))
    wanted = [found[name] for name in names]
    return 0 if all(each is not None and passed(each) and each["commit"] == commit for each in wanted) else 1


def run(name: str, out: Path, commit: str) -> None:
    """Run one part and keep its figures."""
    part, results = PARTS[name], out / f"{name}.xml"
    results.unlink(missing_ok=True)
    print(f"== {name}: {part.what}", flush=True)
    began, clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-o", "junit_family=xunit1", f"--junitxml={results}"]
    code = subprocess.run([*command, *part.arguments], cwd=ROOT, env=os.environ | part.environment).returncode
    kept_figures = {
        "command": part.command,
        "commit": commit,
        "began": began,
        "seconds": round(time.monotonic() - clock),
        "exit": code,
        **(read_results(results) if results.is_file() else {"tests": 0, "failed": 0, "skipped": 0, "figures": {}}),
    }
    (out / f"{name}.json").write_text(json.dumps(kept_figures, indent=2) + "\n", encoding="utf-8")


def read_results(path: Path) -> dict[str, Any]:
    """How many tests ran, failed and were skipped, and what they recorded of themselves."""
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    properties = [(each.get("name", ""), each.get("value", "")) for each in suite.iter("property")]
    return {
        "tests": int(suite.get("tests", 0)),
        "failed": int(suite.get("failures", 0)) + int(suite.get("errors", 0)),
        "skipped": int(suite.get("skipped", 0)),
        "figures": dict(properties),
    }


def kept(out: Path, name: str) -> dict[str, Any] | None:
    """The figures of the last run of a part, or None."""
    path = out / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def passed(figures: dict[str, Any]) -> bool:
    """Whether every test of a part ran and passed; a skipped one shows nothing."""
    return bool(figures["exit"] == 0 and figures["tests"] and not figures["failed"] and not figures["skipped"])


def report(found: dict[str, dict[str, Any] | None]) -> str:
    """A table of the parts, then the figures of each."""
    lines = ["| part | | commit | began | minutes | tests | outcome |", "|---|---|---|---|---|---|---|"]
    details = []
    for name, figures in found.items():
        if figures is None:
            lines.append(f"| {name} | {PARTS[name].what} | | | | | **not run** |")
            continue
        outcome = "passed" if passed(figures) else f"**{figures['failed']} failed, {figures['skipped']} skipped**"
        minutes = f"{figures['seconds'] / 60:.1f}"
        cells = (name, PARTS[name].what, figures["commit"], figures["began"], minutes, figures["tests"], outcome)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        if figures["figures"]:
            told = "; ".join(f"{key} {value}" for key, value in figures["figures"].items())
            details.append(f"- **{name}**, `{figures['command']}`: {told}.")
    return "\n".join([*lines, "", *details]) + "\n"


def present_commit() -> str:
    """The short hash of what is checked out, with a plus sign where files differ from it; "unknown" without git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
