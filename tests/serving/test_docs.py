"""docs/serving.md is executed: every block, in order, in one shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vlkd_serving.bench_serve.processes import free_port

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script_of(text: str, ports: dict[int, int]) -> str:
    """The blocks as one bash script; the documented ports become free ones."""
    parts = ["set -euo pipefail", "set -m", "export KEY="]
    for language, code in BLOCK.findall(text):
        parts.append(code if language == "sh" else f"python - <<'PYTHON'\n{code}PYTHON")
    return re.sub(r"(?<=[: ])800[01]\b", lambda found: str(ports[int(found[0])]), "\n".join(parts))


def test_every_command_works(
    repo_root: Path, tmp_path: Path, tiny_bundle: Path, pictures: Path, picture_bytes: Callable[..., bytes]
) -> None:
    """In a folder with a bundle, pictures and one picture to ask about; what it answers is checked too."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    text = (repo_root / "docs" / "serving.md").read_text()
    assert len(BLOCK.findall(text)) >= 7 and text.count("```") == 2 * len(BLOCK.findall(text))
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    (tmp_path / "picture.png").write_bytes(picture_bytes("red"))
    # The client of huggingface_hub refuses even this machine when it is told to be offline.
    environment = {key: value for key, value in os.environ.items() if not key.endswith("OFFLINE")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    script = script_of(text, {8000: free_port(), 8001: free_port()})
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for expected in (
        '"results":[{"id":',
        '"caption":',
        '"answer":',
        '"labels":',
        "2 embeddings of 8",
        '"outputs":[',
        '"id":"new"',
    ):
        assert expected in done.stdout, expected
    assert 'vlkd_requests_total{code="200",route="/v1/search"} 1.0' in done.stdout
    assert '{"status":"ready","detail":null}' in done.stdout and '"clip":"[' in done.stdout


def test_every_route_is_in_the_documentation(repo_root: Path, client: object) -> None:
    """A route that nobody can find might as well not exist."""
    text = (repo_root / "docs" / "serving.md").read_text()
    for path in client.app.openapi()["paths"]:  # type: ignore[attr-defined]
        known = path.replace("{model}", "NAME").replace("{item_id}", "ID") in text or path.startswith(
            ("/v1/images", "/v1/models/")
        )
        assert known, path
