"""What ``vlkd serve`` makes of its options; nothing is listened on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vlkd_hub.bundle import read_manifest
from vlkd_hub.cli import app
from vlkd_hub.errors import InvalidInputError
from vlkd_serving.engine import Engine
from vlkd_serving.index import IndexWriter, Item, SpaceError
from vlkd_serving.index.commit import commit
from vlkd_serving.settings import ServerSettings

TEACHER = "ee" * 32


@pytest.fixture
def teacher_index(tmp_path: Path, tiny_bundle: Path) -> Path:
    """An index of a teacher's vectors, which the bundle's model is declared to query."""
    directory = tmp_path / "teacher"
    with IndexWriter(directory, TEACHER) as writer:
        built = writer.build([Item(id="a")], np.ones((1, 8)), None)
    commit(directory, replace(built, compatible=[read_manifest(tiny_bundle).fingerprint]))
    return directory


def test_a_student_serves_its_teachers_index_when_it_is_asked_to(
    teacher_index: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `vlkd index search`: never silently, and never to put vectors of the student among the teacher's."""
    served: list[Engine] = []

    def run_server(settings: ServerSettings, engine: Engine) -> None:
        served.append(engine)

    monkeypatch.setattr("vlkd_serving.server.run_server", run_server)
    command = ["serve", "--model", str(tiny_bundle), "--index", str(teacher_index)]
    with pytest.raises(SpaceError, match="--teacher-index"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    CliRunner().invoke(app, [*command, "--teacher-index"], catch_exceptions=False)
    (engine,) = served
    assert engine.index is not None and len(engine.index.current) == 1
    (tmp_path / "keys").touch()
    writable = ["--teacher-index", "--writable", "--keys", str(tmp_path / "keys")]
    with pytest.raises(InvalidInputError, match="only for searching"):
        CliRunner().invoke(app, [*command, *writable], catch_exceptions=False)
