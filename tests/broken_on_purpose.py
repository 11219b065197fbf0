"""Does each guarantee's test notice when its mechanism is broken? ``python tests/broken_on_purpose.py [WORD ...]``.

For every row of :data:`breaks.BREAKS` the packages and tests are copied aside, one line of the copy is broken, and
the test that guards it is run there; before that, all these tests must pass on a copy in which nothing is broken. A
test that still passes then guards nothing. With ``--write`` the table in docs/results/broken-on-purpose.md is made
anew; with words only the rows whose guarantee holds one of them are run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from breaks import BREAKS, Break

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results" / "broken-on-purpose.md"
COPIED = ("vlkd_hub", "training", "export", "serving", "demos", "tests", "docs", "pyproject.toml")
PATHS = (".", "training", "export", "serving", "demos")
NOTICED, PASSED, WRONG = "noticed", "**passes all the same**", "**did not run**"


def main() -> int:
    """Run the rows that were asked for; 0 where every break was noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only guarantees that hold one of these")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    chosen = parser.parse_args()
    rows = [row for row in BREAKS if not chosen.words or any(word in row.guarantee for word in chosen.words)]
    with tempfile.TemporaryDirectory() as folder:  # a guard that fails anyway would seem to notice
        whole = tested(copied(Path(folder)), sorted({row.test for row in rows}))
    if whole.returncode:
        print(f"Nothing is broken yet, and not every test passes:\n{whole.stdout[-2000:]}", file=sys.stderr)
        return 2
    found = []
    for row in rows:
        outcome = run(row)
        print(f"{outcome:24} {row.guarantee}", flush=True)
        found.append((row, outcome))
    if chosen.write:
        PAGE.write_text(page(found), encoding="utf-8")
    return 0 if all(outcome == NOTICED for _, outcome in found) else 1


def run(row: Break) -> str:
    """Break one line in a copy and run its guard there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        file = copy / row.file
        text = file.read_text(encoding="utf-8")
        if text.count(row.old) != 1:
            return f"**the line is there {text.count(row.old)} times**"
        file.write_text(text.replace(row.old, row.new), encoding="utf-8")
        done = tested(copy, [row.test])
    return {0: PASSED, 1: NOTICED}.get(done.returncode, f"{WRONG}: {done.stdout[-200:]}")


def copied(folder: Path) -> Path:
    """Put packages and tests into a folder."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def tested(copy: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy on the copy's own packages."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(copy / path) for path in PATHS)}
    line = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)]
    return subprocess.run(line, cwd=copy, env=environment, capture_output=True, text=True, timeout=900, check=False)


def page(found: list[tuple[Break, str]]) -> str:
    """The table, as Markdown."""
    lines = [
        "# Broken on purpose",
        "",
        "A guarantee is worth what its test notices. Each line below was broken in a copy, and the test beside it run",
        "there: `python tests/broken_on_purpose.py --write` does it all again and writes this page.",
        "",
        "| guarantee | file | the line | becomes | test | |",
        "|---|---|---|---|---|---|",
    ]
    for row, outcome in found:
        cells = (row.guarantee, f"`{row.file}`", code(row.old), code(row.new), f"`tests/{row.test}`", outcome)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """A line of code in a table's cell."""
    return "`" + " ".join(text.replace("|", "\\|").split()) + "`"


if __name__ == "__main__":
    sys.exit(main())
