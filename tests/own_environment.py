"""Let a fresh virtual environment see the packages of this one, behind its own: ``own_environment.py FOLDER``."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

QUESTION = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main(folder: Path) -> None:
    asked = subprocess.run([folder / "bin" / "python", "-c", QUESTION], capture_output=True, text=True, check=True)
    ours = sysconfig.get_path("purelib")
    # addsitedir, not a bare path: the .pth files there (this repository, installed for development) are read too.
    line = f"import site; site.addsitedir({ours!r})\n"
    (Path(asked.stdout.strip()) / "zz_ours.pth").write_text(line, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
