"""A person at the page: types and sees pictures, uploads one and reads a caption, asks and reads an answer."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, circle_index: Path) -> Iterator[str]:
    """A running ``vlkd serve``."""
    command = [sys.executable, "-m", "vlkd_hub.cli", "serve", "--model", tiny_bundle, "--index", circle_index]
    process = subprocess.Popen([*map(str, command), "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        yield next(match[0] for line in process.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module", params=["in process", "over http"])
def address(request: pytest.FixtureRequest, driver: ModuleType, tiny_bundle: Path, circle_index: Path) -> Iterator[str]:
    """The page, both ways."""
    if request.param == "in process":
        options: list[object] = ["--model", tiny_bundle, "--index", circle_index, "--threads", 1]
    else:
        options = ["--url", request.getfixturevalue("server")]
    with driver.running_demo(*options, "--port", 0) as address:
        yield address


@pytest.fixture(scope="module")
def expected(tiny_bundle: Path, circles: Path) -> dict[str, str]:
    """What the student says of the red circle, without any page or server."""
    from PIL import Image

    from vlkd_hub.runtime import OnnxStudent

    student = OnnxStudent.from_pretrained(tiny_bundle, threads=1)
    with Image.open(circles / "red.png") as image:
        red = image.convert("RGB")
    return {"caption": student.caption([red])[0], "answer": student.answer([red], ["what color is the circle ?"])[0]}


def upload(page: Any, element: str, path: Path) -> None:
    page.locator(f"#{element} input[type=file]").set_input_files(path)


def test_search_caption_ask(
    address: str, driver: ModuleType, chromium: str, circles: Path, circle_index: Path, expected: dict[str, str]
) -> None:
    """The three tabs, end to end, with nothing fetched from anywhere else."""
    from playwright.sync_api import expect

    assert expected["caption"] and expected["answer"]
    hosts: set[str] = set()
    problems: list[str] = []
    with driver.open_page(address, chromium) as page:
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.reload()
        driver.search(page, "a red circle")
        page.wait_for_function("document.querySelector('#search-status').innerText.includes('6 pictures')")
        page.wait_for_function("document.querySelectorAll('#search-gallery .thumbnail-lg').length == 6")
        page.locator("#search-gallery .thumbnail-lg").last.scroll_into_view_if_needed()
        page.wait_for_function(driver.ALL_DRAWN)
        assert re.match(
            r"-?\d\.\d{3} · a \w+ circle", page.locator("#search-gallery .caption-label").first.inner_text()
        )
        upload(page, "search-picture", circles / "blue.png")
        page.wait_for_function("document.querySelector('#search-status').innerText.includes('most alike')")
        first = page.locator("#search-gallery .caption-label").first
        page.wait_for_function("document.querySelector('#search-gallery .caption-label').innerText.startsWith('1.000')")
        assert first.inner_text() == "1.000 · a blue circle"

        page.get_by_role("tab", name="Caption").click()
        upload(page, "caption-picture", circles / "red.png")
        expect(page.locator("#caption-text textarea")).to_have_value(expected["caption"], timeout=driver.WAIT_MS)

        page.get_by_role("tab", name="Ask").click()
        upload(page, "ask-picture", circles / "red.png")
        page.locator("#ask-picture img").wait_for()
        page.locator("#ask-question textarea").fill("what color is the circle ?")
        page.locator("#ask-button").click()
        expect(page.locator("#ask-answer textarea")).to_have_value(expected["answer"], timeout=driver.WAIT_MS)
    assert hosts - {""} == {"127.0.0.1"}
    assert problems == []


def test_an_example_search_runs_at_a_click(address: str, driver: ModuleType, chromium: str) -> None:
    """The quickest way to see what the page does; the examples are captions of the indexed pictures."""
    with driver.open_page(address, chromium) as page:
        page.get_by_role("button", name=re.compile(r"^a \w+ circle$")).first.click()
        page.locator("#search-status b").wait_for()
        assert re.fullmatch(r"a \w+ circle", page.locator("#search-text textarea").input_value())
        assert "6 pictures, best first" in page.locator("#search-status").inner_text()


def test_empty_and_broken_input_is_explained(address: str, driver: ModuleType, chromium: str, tmp_path: Path) -> None:
    """A message that says what to do, never a stack trace or a silent nothing."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 10)
    with driver.open_page(address, chromium) as page:
        page.locator("#search-button").click()
        page.get_by_text("Type what you are looking for first.").wait_for()
        page.get_by_role("tab", name="Ask").click()
        page.locator("#ask-question textarea").fill("what?")
        page.locator("#ask-button").click()
        page.get_by_text("Choose a picture first.").first.wait_for()
        page.get_by_role("tab", name="Caption").click()
        upload(page, "caption-picture", broken)
        page.get_by_text("The picture cannot be decoded: it is damaged or cut short.").wait_for()
        assert "Traceback" not in page.content()


def test_a_click_on_a_word_shows_its_patches(
    driver: ModuleType, chromium: str, smke_bundle: Path, circles: Path, tmp_path: Path
) -> None:
    """A person uploads a picture, types a sentence, clicks on words: both drawings change with each."""
    problems: list[str] = []
    with (
        driver.running_demo("--model", smke_bundle, "--threads", 1, "--port", 0) as address,
        driver.open_page(address, chromium) as page,
    ):
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.get_by_role("tab", name="Words and patches").click()
        page.locator("#words-button").click()
        page.get_by_text("Choose a picture first.").first.wait_for()
        upload(page, "words-picture", circles / "red.png")
        page.locator("#words-picture img").wait_for()
        page.locator("#words-text textarea").fill("two red circles")
        page.locator("#words-button").click()
        page.locator("#words-patches img").wait_for()
        labels = page.locator("#words-words label")
        assert labels.all_inner_texts() == ["two", "red", "circles"]
        page.wait_for_function("document.querySelectorAll('#words-words label.selected').length == 1")
        shown: dict[str, tuple[str, str]] = {}
        for word in ("two", "red"):  # with these weights they have different patches
            labels.filter(has_text=word).click()
            page.wait_for_function(f"document.querySelector('#words-status').innerText.startsWith('{word}: best in')")
            drawings = []
            for at, name in enumerate(("patches", "attention")):
                before = [pair[at] for pair in shown.values()]  # a picture may follow its words by a moment
                page.wait_for_function(f"!{before}.includes(document.querySelector('#words-{name} img').src)")
                drawings.append(page.locator(f"#words-{name} img").get_attribute("src"))
            shown[word] = (str(drawings[0]), str(drawings[1]))
        assert len({source for pair in shown.values() for source in pair}) == 4
        upload_again(page, circles / "blue.png")
        page.wait_for_function("document.querySelectorAll('#words-words label').length == 0")
    assert problems == []


def upload_again(page: Any, path: Path) -> None:
    """Put another picture in the place of the first; the answers about the first go."""
    page.locator("#words-picture button[aria-label='Remove Image']").click()
    upload(page, "words-picture", path)
    page.locator("#words-picture img").wait_for()


def test_the_tab_is_for_models_that_match_words(address: str, driver: ModuleType, chromium: str) -> None:
    """A captioning student has three tabs."""
    with driver.open_page(address, chromium) as page:
        assert page.get_by_role("tab").all_inner_texts() == ["Search", "Caption", "Ask"]


def test_no_other_file_is_reachable(address: str, circle_index: Path, circles: Path) -> None:
    """The page hands out what it shows, and nothing else of this computer."""
    for path in ("/etc/passwd", circle_index / "MANIFEST", circles / "red.png", circles, Path.home() / ".env"):
        answer = httpx.get(f"{address}gradio_api/file={path}", follow_redirects=True)
        assert answer.status_code in (403, 404), path
    for path in ("../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", ".env"):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404), path


def test_the_screenshot_command(
    driver: ModuleType, chromium: str, tiny_bundle: Path, circle_index: Path, tmp_path: Path
) -> None:
    """The command that makes the README's picture works."""
    from PIL import Image

    output = tmp_path / "new" / "demo.png"
    command = [
        driver.__file__,
        "--model",
        tiny_bundle,
        "--index",
        circle_index,
        "--output",
        output,
        "--chromium",
        chromium,
    ]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open(output) as image:
        assert image.width == 1200 and image.height >= 900
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 200
