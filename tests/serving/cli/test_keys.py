"""``vlkd keys``: a key is shown once, its file lists names only."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from vlkd_hub.cli import app
from vlkd_hub.errors import InvalidInputError
from vlkd_serving.security.keys import KeyRing


def test_add_and_list(tmp_path: Path) -> None:
    """The printed key opens, the printed list does not."""
    path = str(tmp_path / "keys")
    made = CliRunner().invoke(app, ["keys", "add", path, "--name", "app", "--scope", "read", "--scope", "write"])
    key = KeyRing.load(path).find(made.output.strip())
    assert key is not None and key.scopes == ("read", "write")
    CliRunner().invoke(app, ["keys", "add", path, "--name", "other"])
    listed = CliRunner().invoke(app, ["keys", "list", path])
    assert listed.output.split() == ["app", "other"]


def test_writing_needs_a_key(tiny_bundle: Path, tmp_path: Path) -> None:
    """A server that anyone could change is refused at the start."""
    result = CliRunner().invoke(app, ["serve", "--model", str(tiny_bundle), "--writable"])
    assert isinstance(result.exception, InvalidInputError) and "--keys" in str(result.exception)
