"""``vlkd keys``: a key is shown once, its file lists names only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
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


def test_remove(tmp_path: Path) -> None:
    """The others stay, only their owner may read them, and a name that is not there is an error that lists those."""
    path = tmp_path / "keys"
    made = [CliRunner().invoke(app, ["keys", "add", str(path), "--name", name]).output.strip() for name in ("a", "b")]
    assert CliRunner().invoke(app, ["keys", "remove", str(path), "--name", "a"]).exit_code == 0
    ring = KeyRing.load(path)
    assert ring.find(made[0]) is None and ring.find(made[1]) is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [file.name for file in tmp_path.iterdir()] == ["keys"]
    again = CliRunner().invoke(app, ["keys", "remove", str(path), "--name", "a"])
    assert isinstance(again.exception, InvalidInputError) and "there are b" in str(again.exception)


def test_the_file_keeps_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that runs as another user than who removes a key must read the file, or the key would go on counting."""
    path, owners = tmp_path / "keys", []
    for name in ("a", "b"):
        CliRunner().invoke(app, ["keys", "add", str(path), "--name", name])
    monkeypatch.setattr("os.chown", lambda file, user, group: owners.append((file.name, user, group)))
    before = path.stat()
    assert CliRunner().invoke(app, ["keys", "remove", str(path), "--name", "a"]).exit_code == 0
    assert owners == [("keys.tmp", before.st_uid, before.st_gid)]


def test_writing_needs_a_key(tiny_bundle: Path, tmp_path: Path) -> None:
    """A server that anyone could change is refused at the start."""
    result = CliRunner().invoke(app, ["serve", "--model", str(tiny_bundle), "--writable"])
    assert isinstance(result.exception, InvalidInputError) and "--keys" in str(result.exception)
