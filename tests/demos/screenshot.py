"""Drive the demo in chromium; as a script, write the picture that the README shows.

python tests/demos/screenshot.py --model BUNDLE --index DIR --output docs/images/demo-search.png
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 30_000
ALL_DRAWN = (
    "[...document.querySelectorAll('#search-gallery .thumbnail-lg img')].every(i => i.complete && i.naturalWidth)"
)
"""True when the browser has really drawn every picture of the gallery."""


@contextmanager
def running_demo(*options: object) -> Iterator[str]:
    """The demo script in a process where torch cannot be imported; yields its address."""
    app = Path(__file__).resolve().parents[2] / "demos" / "app.py"
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-u", "-c", code, str(app), *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.search(r"The demo is at (http\S+)", line):
                yield match[1]
                return
        raise RuntimeError(f"the demo ended with code {process.wait()}")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def open_page(address: str, chromium: str, width: int = 1200, height: int = 900) -> Iterator[Any]:
    """The page in a headless chromium, ready for typing."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(WAIT_MS)
            page.goto(address)
            page.locator("#search-text textarea").wait_for()
            yield page
        finally:
            browser.close()


def search(page: Any, text: str) -> None:
    """Type a query, press the button, and wait for the time that the answer took."""
    page.locator("#search-text textarea").fill(text)
    page.locator("#search-button").click()
    page.locator("#search-status b").wait_for()


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--query", default="a red circle")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with running_demo("--model", args.model, "--index", args.index, "--port", 0) as address:
        with open_page(address, args.chromium) as page:
            search(page, args.query)
            page.wait_for_function(ALL_DRAWN)
            page.evaluate("document.fonts.ready")
            page.locator("h1").hover()
            page.screenshot(path=args.output, full_page=True)
    print(f"wrote {args.output} ({args.output.stat().st_size // 1024} KB)")


if __name__ == "__main__":
    main()
