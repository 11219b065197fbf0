"""The demo as a plain script, with the options of ``vlkd demo``: python demos/app.py --model BUNDLE --index DIR.

Without an index the page starts with the pictures that lie beside this script.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from vlkd_serving.cli.demo import demo

if __name__ == "__main__":
    if not {"--index", "--url", "--examples", "--help"} & {arg.split("=")[0] for arg in sys.argv[1:]}:
        sys.argv += ["--examples", str(Path(__file__).resolve().parent / "pictures")]
    typer.run(demo)
