"""The page's promises that need no browser: an API of three answers, nothing fetched from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from vlkd_serving.demo.style import CSS, HEADER, make_theme

# In a process of its own: Gradio's server and client leave sockets open until the interpreter ends.
TALK = """
import json, sys, warnings
from pathlib import Path
import httpx
from gradio_client import Client, handle_file
sys.path.insert(0, sys.argv[1])
from fake_student import FINGERPRINT, FakeStudent
from vlkd_serving.demo.backend import LocalBackend, example_pictures
from vlkd_serving.demo.page import build_page, launch_page
from vlkd_serving.index import LiveIndex

pictures = Path(sys.argv[3])
backend = LocalBackend(FakeStudent(), LiveIndex(sys.argv[2], FINGERPRINT))
url = launch_page(build_page(backend, example_pictures(backend, None, 4)), "127.0.0.1", 0, block=False)
client = Client(url, verbose=False)
gallery, status = client.predict("something red", 4, api_name="/search")
picture = handle_file(pictures / "green.jpg")
print(json.dumps({
    "captions": [item["caption"] for item in gallery],
    "status": status,
    "caption": client.predict(picture, api_name="/caption")[0],
    "answer": client.predict(picture, "what color?", api_name="/ask")[0],
    "analytics": httpx.get(url + "config").json()["analytics_enabled"],
    "endpoints": sorted(client.view_api(return_format="dict", print_info=False)["named_endpoints"]),
}))
"""


def test_an_api_client_gets_the_three_answers(index_dir: Path, pictures: Path) -> None:
    """The page is also an API with named endpoints; an upload goes through our own decoder."""
    here = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", TALK, here, index_dir, pictures]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["captions"][0].endswith(" · a red field") and "3 pictures" in answer["status"]
    assert (answer["caption"], answer["answer"], answer["analytics"]) == ("a green picture", "green", False)
    assert answer["endpoints"] == ["/ask", "/caption", "/search", "/search_by_picture"]


def test_no_address_of_another_host_in_the_style() -> None:
    """The page works in a room without a network."""
    assert not make_theme()._stylesheets
    assert not any("//" in text for text in (CSS, HEADER))
