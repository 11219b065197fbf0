"""The runner of the long tests: what it counts as passed, and that it goes on where it stopped."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILES = {
    "good": "def test_it(record_property):\n    record_property('kills', 30)\n",
    "bad": "def test_it():\n    assert False\n",
    "skipped": "import pytest\n\ndef test_it():\n    pytest.skip('no disk')\n\ndef test_other():\n    pass\n",
}


@pytest.fixture
def nightly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with three parts of its own."""
    path = Path(__file__).with_name("nightly.py")
    spec = importlib.util.spec_from_file_location("nightly_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, module)
    spec.loader.exec_module(module)
    parts = {}
    for name, text in FILES.items():
        (tmp_path / f"test_{name}.py").write_text(text)
        parts[name] = module.Part(f"about {name}", (str(tmp_path / f"test_{name}.py"),), {"LONG": "1"})
    monkeypatch.setattr(module, "PARTS", parts)
    return module


def test_parts_are_kept_and_told(nightly: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed on this commit is not run again; what failed or skipped is not called passed."""
    out = tmp_path / "out"
    assert nightly.main(["good", "--out", str(out)]) == 0
    first = (out / "good.json").stat().st_mtime_ns
    assert nightly.main(["--out", str(out)]) == 1
    assert (out / "good.json").stat().st_mtime_ns == first
    text = (out / "report.md").read_text()
    assert "| passed |" in text and "**1 failed, 0 skipped**" in text and "**0 failed, 1 skipped**" in text
    assert "LONG=1 pytest" in text and "kills 30" in text
    assert nightly.main(["good", "--again", "--out", str(out)]) == 0
    assert (out / "good.json").stat().st_mtime_ns > first
    monkeypatch.setattr(nightly, "present_commit", lambda: "another")
    assert nightly.main(["good", "--report", "--out", str(out)]) == 1


def test_an_unknown_part_is_named(nightly: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """With those that there are."""
    with pytest.raises(SystemExit):
        nightly.main(["nothing"])
    assert "no such part: nothing; there are good, bad, skipped" in capsys.readouterr().err
