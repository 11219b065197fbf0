"""The guard of optional imports."""

from __future__ import annotations

import json

import pytest

from vlkd_hub._optional import require
from vlkd_hub.errors import MissingDependencyError


def test_returns_the_module() -> None:
    assert require("json", "serve") is json


def test_names_package_and_command() -> None:
    """The message must hold the exact command, quoted so that a shell takes it."""
    with pytest.raises(MissingDependencyError, match=r'\'not_there\' is needed.*pip install "vlkd-hub\[serve\]"'):
        require("not_there.inner", "serve")


def test_an_error_inside_an_installed_package_passes(tmp_path, monkeypatch) -> None:
    """Telling a person to install what is installed, because something else is missing, would mislead."""
    (tmp_path / "broken_package.py").write_text("import not_there_either")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_either") as raised:
        require("broken_package", "serve")
    assert not isinstance(raised.value, MissingDependencyError)
