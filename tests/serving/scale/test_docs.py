"""docs/scale.md is executed: every shell block, in order, in one shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from vlkd_serving.bench_serve.processes import free_port

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_command_works(
    repo_root: Path, tmp_path: Path, tiny_bundle: Path, pictures: Path, picture_bytes: Callable[..., bytes]
) -> None:
    """In a folder with a bundle, pictures and one picture to ask about; what it answers is checked too."""
    pytest.importorskip("ray", reason="needs the extra: scale")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    blocks = [block for block in BLOCK.findall((repo_root / "docs" / "scale.md").read_text()) if "pip " not in block]
    blocks = [block for block in blocks if "bench" not in block]  # hours; the figures name their own conditions
    assert len(blocks) == 2
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    (tmp_path / "picture.png").write_bytes(picture_bytes("red"))
    port = free_port()
    script = "\n".join(["set -euo pipefail", "set -m", *blocks])
    script = script.replace(":8000", f":{port}").replace("--port 8000", f"--port {port}")
    with tempfile.TemporaryDirectory(prefix="vlkd-") as short:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "RAY_TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert '{"status":"ready","detail":null}' in done.stdout
    for expected in ('"results":[{"id":', '"caption":', '"answer":', '"embedding":['):
        assert expected in done.stdout, expected
    assert "2 parts made, 0 were whole: 3 vectors." in done.stdout
    assert "0 parts made, 2 were whole: 3 vectors." in done.stdout and "Generation 1: 3 items" in done.stdout
