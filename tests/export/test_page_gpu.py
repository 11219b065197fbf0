"""The blocks of ``docs/export.md`` for a machine with a GPU, run here with stand-ins for what only such a machine has.

TensorRT, CUDA, onnxruntime's TensorRT provider, Docker and Triton are stand-ins (``tests/fake_tensorrt.py``,
``triton/fake_triton.py``, and below); the commands, the graphs, the engines' store, the repository and the answers are
the product's own.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vlkd_export.golden import drawn_pictures
from vlkd_hub.cli import main
from vlkd_hub.runtime import OnnxStudent

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
LINES = [
    line
    for body in re.findall(r"^```sh\n# on a machine with a GPU\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in body.splitlines()
]
BY_VERB: dict[str, list[str]] = defaultdict(list)
for _line in LINES:
    BY_VERB[" ".join(shlex.split(_line)[:2])].append(_line)
PICTURES = [picture.image for picture in drawn_pictures()[:3]]


@pytest.fixture
def clone(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the page leaves it before these blocks."""
    (tmp_path / ".quickstart").mkdir()
    (tmp_path / ".quickstart" / "shapes").symlink_to(tiny_bundle)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line)[1:])
    said = capsys.readouterr()
    assert ended.value.code in (0, None), f"{line}\n{said.err}"
    return said.out


def test_every_line_is_run_below() -> None:
    """A new kind of line would otherwise pass unseen."""
    counts = {verb: len(lines) for verb, lines in BY_VERB.items()}
    assert counts == {"pip install": 1, "vlkd export": 2, "docker run": 1}


def test_the_extra_is_one_that_pip_finds() -> None:
    """``pip install "vlkd-hub[tensorrt]"`` of this very tree, as far as pip goes without fetching anything."""
    (line,) = BY_VERB["pip install"]
    wanted = shlex.split(line)[2].replace("vlkd-hub", str(ROOT))
    flags = ["--dry-run", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *flags, wanted], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "Would install vlkd-hub" in done.stdout, done.stderr
    assert "does not provide the extra" not in done.stderr


def test_engines_are_built_and_answer(
    clone: Path, fake_gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The block of TensorRT and the Python block after it, through engines and through onnxruntime's provider."""
    fake_gpu()
    asked: list[Any] = []
    real = OnnxStudent.from_pretrained(".quickstart/shapes")

    def provider_session(path: Path, *, providers: Any, allowed_external: Any) -> Any:
        from vlkd_hub.runtime.sessions import open_session

        asked.append(providers)
        return open_session(path, allowed_external=allowed_external)

    monkeypatch.setattr("vlkd_hub.runtime.tensorrt.student.open_session", provider_session)
    line = next(line for line in BY_VERB["vlkd export"] if "tensorrt" in line)
    assert run(line, capsys).count("engine of ") == 5
    names: dict[str, Any] = {}
    (body,) = re.findall(r"^```python gpu\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(body, "docs/export.md", "exec"), names)
    for student in (names["student"], names["again"]):
        cosines = np.sum(student.embed_images(PICTURES) * real.embed_images(PICTURES), axis=1)
        assert cosines.min() >= 0.999
        assert all(isinstance(text, str) for text in student.caption(PICTURES, max_new_tokens=4))
    assert [(first[0], second) for first, second in asked] == [
        ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    ] * 5


def fake_triton() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_triton", Path(__file__).parent / "triton" / "fake_triton.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCKER = """#!{python}
import json, pathlib, subprocess, sys
arguments = sys.argv[1:]
volume = arguments[arguments.index("-v") + 1]
host, inside = volume.rsplit(":", 1)
assert arguments[0] == "run" and pathlib.Path(host).is_dir(), arguments
shell = arguments.index("sh")
ran = subprocess.run(arguments[shell:])
json.dump({{"image": arguments[shell - 1], "host": host, "inside": inside}}, open("docker.json", "w"))
sys.exit(ran.returncode)
"""


def test_triton_serves_what_the_lines_say(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``docker`` runs the container's command; the folder that it mounts is served by the stand-in for Triton."""
    from vlkd_export.triton import repository

    written: dict[str, Any] = {}
    real = repository.write_repository
    monkeypatch.setattr(
        repository, "write_repository", lambda *words, **more: written.update(real(*words, **more)) or written
    )
    line = next(line for line in BY_VERB["vlkd export"] if "triton" in line)
    run(line, capsys)
    assert written, "the line wrote no repository"
    commands = clone / "bin"
    commands.mkdir()
    for name, text in {
        "docker": DOCKER.format(python=sys.executable),
        "pip": '#!/bin/sh\necho "$@" > pip.txt\n',
        "tritonserver": '#!/bin/sh\necho "$@" > tritonserver.txt\n',
    }.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    (docker,) = BY_VERB["docker run"]
    environment = {"PATH": f"{commands}:/usr/bin:/bin", "PWD": str(clone)}
    done = subprocess.run(["sh", "-c", docker], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mounted = json.loads((clone / "docker.json").read_text())
    assert (clone / "tritonserver.txt").read_text().split() == ["--model-repository", mounted["inside"]]
    assert (clone / "pip.txt").read_text().split() == ["install", "vlkd-hub"]
    folder = Path(mounted["host"])
    assert folder.samefile(clone / ".quickstart" / "models")
    assert {path.parent.name for path in folder.glob("*/config.pbtxt")} == set(written)
    assert "KIND_GPU" in (folder / "image_encoder" / "config.pbtxt").read_text()
    server = fake_triton().FakeTriton(folder, written)
    try:
        for name in written:
            server.warm_up(name)
        real_student = OnnxStudent.from_pretrained(".quickstart/shapes")
        png = picture_bytes()
        found = server.infer("caption", {"IMAGE": np.array([[png]], dtype=object)})
        assert next(iter(found.values())).ravel()[0].decode() == real_student.caption(PICTURES[:1])[0]
    finally:
        sys.modules.pop("triton_python_backend_utils", None)


def picture_bytes() -> bytes:
    stream = io.BytesIO()
    PICTURES[0].save(stream, format="PNG")
    return stream.getvalue()
