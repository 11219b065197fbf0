"""The page over a :class:`vlkd_serving.demo.backend.DemoBackend`: tabs Search, Caption and Ask, and Words and patches
for models that match words.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read by gradio when it is imported

import gradio as gr
from PIL import Image

from vlkd_serving.demo.backend import DemoBackend, Found
from vlkd_serving.demo.style import CSS, HEADER, make_theme
from vlkd_serving.demo.widgets import picture_examples, picture_input, status_line, timed
from vlkd_serving.demo.words_tab import words_tab

__all__ = ["build_page", "launch_page"]

GalleryItems = list[tuple[Image.Image, str]]

MAX_UPLOAD = "10mb"
EXAMPLE_QUERIES = 4
QUESTIONS = ("What color is it?", "How many are there?", "What shape is it?", "Is there a circle?")
START = "Type what you are looking for, or pick an example."


def build_page(backend: DemoBackend, examples: Sequence[Found]) -> gr.Blocks:
    """Lay the page out.

    Args:
        backend: answers.
        examples: pictures to start with; their captions become example searches.
    """
    page: gr.Blocks = gr.Blocks(title="vlkd demo", analytics_enabled=False, delete_cache=(3600, 3600))
    with page:
        gr.HTML(HEADER, elem_classes="vlkd-flat")
        with gr.Tab("Search", id="search"):
            _search_tab(backend, examples)
        with gr.Tab("Caption", id="caption"):
            _caption_tab(backend, examples)
        with gr.Tab("Ask", id="ask"):
            _ask_tab(backend, examples)
        if backend.matches_words():
            with gr.Tab("Words and patches", id="words"):
                words_tab(backend, examples)
    return page


def launch_page(page: gr.Blocks, host: str, port: int, *, block: bool = True, open_browser: bool = False) -> str:
    """Serve the page; no file of this computer is reachable through it but what it shows.

    Args:
        page: from :func:`build_page`.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        block: return only when the page is stopped.
        open_browser: open it in this computer's browser.

    Returns:
        The page's address.

    Raises:
        OSError: the port is in use.
    """
    _, url, _ = page.queue(default_concurrency_limit=2, max_size=32).launch(
        server_name=host,
        server_port=port or None,
        theme=make_theme(),
        css=CSS,
        footer_links=[],
        max_file_size=MAX_UPLOAD,
        show_error=False,
        ssr_mode=False,
        inbrowser=open_browser,
        quiet=True,
        prevent_thread_lock=not block,
    )
    return str(url)


def _search_tab(backend: DemoBackend, examples: Sequence[Found]) -> None:
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            text = gr.Textbox(
                label="Describe the picture",
                placeholder="a red circle",
                elem_id="search-text",
                max_length=1000,
                autofocus=True,
            )
            with gr.Row():
                count = gr.Slider(4, 24, value=8, step=4, label="How many", min_width=120, scale=2, buttons=[])
                button = gr.Button("Search", variant="primary", elem_id="search-button", scale=1, min_width=100)
            queries = _queries(examples)
            ready = gr.Examples([[query] for query in queries], [text], label="For example") if queries else None
        with gr.Column(scale=2, min_width=240):
            picture = picture_input("or look for pictures like this one", "search-picture", height=232)
    status = gr.HTML(START, elem_classes=["vlkd-status", "vlkd-flat"], elem_id="search-status")
    gallery = _search_gallery(examples)

    def by_text(query: str, k: int) -> tuple[GalleryItems, str]:
        if not query.strip():
            gr.Warning("Type what you are looking for first.", title="Nothing to search for")
            return gr.skip(), START
        found, seconds = timed(lambda: backend.search_text(query, int(k)))
        return _gallery(found), status_line(seconds, f"{len(found)} pictures, best first")

    def by_picture(path: str | None, k: int) -> tuple[GalleryItems, str]:
        if path is None:
            return gr.skip(), START
        found, seconds = timed(lambda: backend.search_picture(Path(path).read_bytes(), int(k)))
        return _gallery(found), status_line(seconds, f"{len(found)} pictures, the most alike first")

    outputs = [gallery, status]
    gr.on([button.click, text.submit], by_text, [text, count], outputs, api_name="search", show_progress="minimal")
    if ready is not None:
        ready.load_input_event.then(by_text, [text, count], outputs, api_visibility="private", show_progress="minimal")
    picture.change(by_picture, [picture, count], outputs, api_name="search_by_picture", show_progress="minimal")


def _search_gallery(examples: Sequence[Found]) -> gr.Gallery:
    return gr.Gallery(
        _gallery(examples, scores=False),
        show_label=False,
        columns=4,
        object_fit="cover",
        height="auto",
        interactive=False,
        buttons=["fullscreen"],
        elem_id="search-gallery",
        elem_classes="vlkd-gallery",
    )


def _caption_tab(backend: DemoBackend, examples: Sequence[Found]) -> None:
    with gr.Row():
        with gr.Column(min_width=280):
            picture = picture_input("Picture", "caption-picture")
            picture_examples(examples, picture)
        with gr.Column(min_width=280):
            caption = gr.Textbox(
                label="Caption",
                placeholder="The description appears here.",
                lines=3,
                interactive=False,
                elem_id="caption-text",
                elem_classes="vlkd-answer",
                buttons=["copy"],
            )
            status = gr.HTML("Upload a picture, or pick an example.", elem_classes=["vlkd-status", "vlkd-flat"])

    def describe(path: str | None) -> tuple[str, str]:
        if path is None:
            return "", "Upload a picture, or pick an example."
        text, seconds = timed(lambda: backend.caption(Path(path).read_bytes()))
        return text, status_line(seconds, "described")

    picture.change(describe, picture, [caption, status], api_name="caption", show_progress="minimal")


def _ask_tab(backend: DemoBackend, examples: Sequence[Found]) -> None:
    with gr.Row():
        with gr.Column(min_width=280):
            picture = picture_input("Picture", "ask-picture")
            picture_examples(examples, picture)
        with gr.Column(min_width=280):
            question = gr.Textbox(label="Question", placeholder=QUESTIONS[0], elem_id="ask-question", max_length=1000)
            gr.Examples([[text] for text in QUESTIONS], [question], label="For example")
            button = gr.Button("Ask", variant="primary", elem_id="ask-button")
            answer = gr.Textbox(
                label="Answer",
                placeholder="The answer appears here.",
                interactive=False,
                elem_id="ask-answer",
                elem_classes="vlkd-answer",
            )
            status = gr.HTML("Choose a picture and ask about it.", elem_classes=["vlkd-status", "vlkd-flat"])

    def reply(path: str | None, text: str) -> tuple[str, str]:
        if path is None or not text.strip():
            missing = "Choose a picture first." if path is None else "Type a question first."
            gr.Warning(missing, title="Nothing to answer")
            return "", missing
        words, seconds = timed(lambda: backend.answer(Path(path).read_bytes(), text))
        return words, status_line(seconds, "answered")

    events = [button.click, question.submit]
    gr.on(events, reply, [picture, question], [answer, status], api_name="ask", show_progress="minimal")


def _queries(examples: Sequence[Found]) -> list[str]:
    """The shortest caption of each of the first example pictures, each once."""
    shortest = (min(found.captions, key=len) for found in examples if found.captions)
    return list(dict.fromkeys(shortest))[:EXAMPLE_QUERIES]


def _gallery(found: Sequence[Found], *, scores: bool = True) -> GalleryItems:
    items = []
    for each in found:
        words = each.captions[0] if each.captions else each.id
        items.append((each.picture, f"{each.score:.3f} · {words}" if scores else words))
    return items
