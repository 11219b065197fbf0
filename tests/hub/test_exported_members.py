"""``vlkd_hub`` exports what it says, and costs nothing until a name is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vlkd_hub


@pytest.mark.parametrize("name", vlkd_hub.__all__)
def test_every_exported_name_resolves(name: str) -> None:
    """A lazy name that points to the wrong module fails only when somebody uses it."""
    assert getattr(vlkd_hub, name) is not None
    assert name in dir(vlkd_hub)


def test_unknown_name_is_an_attribute_error() -> None:
    """hasattr and pickling rely on AttributeError."""
    with pytest.raises(AttributeError, match="has no attribute 'Student'"):
        _ = vlkd_hub.Student


def test_import_brings_nothing() -> None:
    """``import vlkd_hub`` in a server must not load torch, nor numpy."""
    program = "import sys, vlkd_hub; print({'torch', 'transformers', 'numpy', 'rich', 'typer'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
