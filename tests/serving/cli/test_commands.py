"""The commands on a real exported bundle, in processes where torch and transformers cannot be imported."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; "
    "from vlkd_hub.cli import main; main(sys.argv[1:])"
)
START_S = 20.0


def command(*args: object) -> list[str]:
    return [sys.executable, "-c", WITHOUT_TORCH, *map(str, args)]


def vlkd(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=60)


@pytest.fixture
def real_index(tmp_path: Path, tiny_bundle: Path, pictures: Path) -> Path:
    """An index made by typing the command."""
    directory = tmp_path / "real-index"
    done = vlkd("index", "build", directory, "--model", tiny_bundle, "--images", pictures)
    assert done.returncode == 0, done.stderr
    assert "3 items" in done.stdout
    return directory


def test_build_search_stats_add_remove(real_index: Path, tiny_bundle: Path, pictures: Path) -> None:
    """The whole life of an index on the command line."""
    image = pictures / "more" / "blue.webp"
    found = vlkd("index", "search", real_index, "--model", tiny_bundle, "--image", image, "--k", 2, "--json")
    answer = json.loads(found.stdout)
    assert [len(answer["results"]), answer["results"][0]["id"]] == [2, "more/blue.webp"]
    assert answer["results"][0]["score"] == pytest.approx(1, abs=1e-4)
    by_text = vlkd("index", "search", real_index, "--model", tiny_bundle, "--text", "a red circle", "--k", "5")
    assert by_text.returncode == 0 and "red.png" in by_text.stdout and "a red field" in by_text.stdout
    removed = vlkd("index", "remove", real_index, "red.png")
    assert removed.stdout.strip() == "Generation 2: 2 items."
    added = vlkd("index", "add", real_index, "--model", tiny_bundle, "--images", pictures, "--json")
    assert json.loads(added.stdout)["items"] == 3
    stats = json.loads(vlkd("index", "stats", real_index, "--json").stdout)
    assert (stats["generation"], stats["items"], stats["dim"], stats["degraded"]) == (3, 3, 8, None)
    assert vlkd("index", "stats", real_index).returncode == 0


def test_skipped_pictures_show_in_the_exit_code(tmp_path: Path, tiny_bundle: Path, pictures: Path) -> None:
    """A script notices, and the list says which."""
    (pictures / "bad.png").write_bytes(b"no picture")
    done = vlkd("index", "build", tmp_path / "i", "--model", tiny_bundle, "--images", pictures)
    assert done.returncode == 3 and "skipped bad.png: These bytes are not a picture" in done.stderr
    assert json.loads(vlkd("index", "stats", tmp_path / "i", "--json").stdout)["items"] == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("index", "stats", "{tmp}/none"), "no index"),
        (("index", "build", "{tmp}/i", "--model", "{tmp}", "--images", "{tmp}"), "holds no picture"),
        (("index", "search", "{index}", "--model", "{bundle}"), "either --text or --image"),
        (("index", "search", "{index}", "--model", "{bundle}", "--text", " "), "must not be empty"),
        (("index", "search", "{index}", "--model", "{bundle}", "--image", "{tmp}/x.png"), "is not a file"),
        (("index", "search", "{fake_index}", "--model", "{bundle}", "--text", "x"), "another model"),
        (("index", "remove", "{index}", "nope"), "nope"),
        (("serve", "--model", "{tmp}"), "is not a bundle"),
        (("serve", "--model", "{bundle}", "--provider", "abacus"), "Unknown provider 'abacus'"),
        (("serve", "--model", "{bundle}", "--provider", "measured"), "this bundle is from a plain export"),
        (("serve", "--model", "{bundle}", "--index", "{fake_index}"), "another model"),
        (("demo",), "either --model"),
        (("demo", "--url", "http://127.0.0.1:9", "--index", "{index}"), "--index belongs to --model"),
        (("demo", "--model", "{bundle}", "--examples", "{tmp}/none"), "is not a folder"),
    ],
)
def test_user_errors_are_one_line(
    args: tuple[str, ...], message: str, tmp_path: Path, tiny_bundle: Path, real_index: Path, index_dir: Path
) -> None:
    """In process, since each is raised before any work."""
    from vlkd_hub.cli import app
    from vlkd_hub.errors import VlkdError

    places = {"tmp": tmp_path / "empty", "bundle": tiny_bundle, "index": real_index, "fake_index": index_dir}
    places["tmp"].mkdir()
    result = CliRunner().invoke(app, [arg.format(**places) for arg in args])
    assert isinstance(result.exception, VlkdError) and message in str(result.exception)


def test_serve_answers_without_torch(tiny_bundle: Path, real_index: Path, pictures: Path) -> None:
    """The real command on the real runtime: ready soon, four answers, exit 0 on SIGTERM; no thread or file keeps it."""
    process = subprocess.Popen(
        command("serve", "--model", tiny_bundle, "--index", real_index, "--port", "0", "--threads", "1"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        address = next(line.split()[-5] for line in process.stderr if "running on" in line)
        client = httpx.Client(base_url=address, timeout=10)
        until = time.monotonic() + START_S
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < until
        image = (pictures / "green.jpg").read_bytes()
        found = client.post("/v1/search", files={"image": image}, data={"k": "1"}).json()["results"][0]
        assert found["id"] == "green.jpg" and client.get(found["image_url"]).content == image
        assert isinstance(client.post("/v1/caption", files={"image": image}).json()["caption"], str)
        asked = client.post("/v1/vqa", files={"image": image}, data={"question": "what color is [MASK] [PAD] {masks}?"})
        assert isinstance(asked.json()["answer"], str)
        vector = client.post("/v1/embeddings", json={"input": "a red circle"}).json()["data"][0]["embedding"]
        assert len(vector) == 8
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_demo_on_a_port_in_use_is_an_error(tiny_bundle: Path) -> None:
    """One line that names the option to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = vlkd("demo", "--model", tiny_bundle, "--port", taken.getsockname()[1])
    assert done.returncode == 2 and "Choose another with --port" in done.stderr
