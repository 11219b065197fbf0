"""The demo as a plain script, with the options of ``vlkd demo``: python demos/app.py --model BUNDLE --index DIR."""

from __future__ import annotations

import typer

from vlkd_serving.cli.demo import demo

if __name__ == "__main__":
    typer.run(demo)
