"""The tab Words and patches: a sentence about a picture, a click on a word, and where the model sees it.

Source: 004_3cb4412af0da3ec5.txt, Figure 29.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from vlkd_hub.runtime.matching import WordMatch
from vlkd_serving.demo.backend import DemoBackend, Found
from vlkd_serving.demo.drawing import draw_attention, draw_patches
from vlkd_serving.demo.widgets import picture_input, status_line, timed
from vlkd_serving.images import PictureLimits, decode_picture

__all__ = ["words_tab"]

START = "Choose a picture, say what is in it, and click on a word."
KEPT_S = 3600
"""Seconds for which a match is kept for a page that is left open."""
NO_ATTENTION = "this model's shared encoder is an MLP, which does not attend"


def words_tab(backend: DemoBackend, examples: Sequence[Found]) -> None:
    """Lay the tab out.

    Args:
        backend: one that matches words.
        examples: pictures to start with; with their captions, where they have some.
    """
    kept = gr.State(None, time_to_live=KEPT_S)
    with gr.Row():
        with gr.Column(scale=2, min_width=260):
            picture = picture_input("Picture", "words-picture", height=240)
            text = gr.Textbox(label="What is in it?", placeholder="a red circle", elem_id="words-text", max_length=1000)
            button = gr.Button("Find the words", variant="primary", elem_id="words-button")
        with gr.Column(scale=5, min_width=320):
            words = gr.Radio([], label="Click on a word", elem_id="words-words", elem_classes="vlkd-words")
            with gr.Row():
                with gr.Column(min_width=240):
                    patches = _drawing("The five patches most like the word", "words-patches")
                with gr.Column(min_width=240):
                    attention = _drawing("What the best of them attends to", "words-attention")
            status = gr.HTML(START, elem_classes=["vlkd-status", "vlkd-flat"], elem_id="words-status")
    ready = _examples(examples, picture, text)

    def find(path: str | None, sentence: str) -> tuple[Any, ...]:
        if path is None or not sentence.strip():
            missing = "Choose a picture first." if path is None else "Say what is in the picture first."
            gr.Warning(missing, title="Nothing to find")
            return None, gr.Radio([], value=None), None, gr.skip(), missing
        match, seconds = timed(lambda: backend.match_words(Path(path).read_bytes(), sentence))
        if not match.words:
            return None, gr.Radio([], value=None), None, gr.skip(), "There is no word in this."
        best = max(range(len(match.words)), key=lambda number: float(match.words[number].scores.max()))
        choices = [(word.text, number) for number, word in enumerate(match.words)]
        shown = _shown(path, match, best)
        status = f"{status_line(seconds, 'every word against every patch')} · {_told(match, best)}"
        return match, gr.Radio(choices, value=best), *shown, status

    def pick(number: int | None, path: str | None, match: WordMatch | None) -> tuple[Any, ...]:
        if number is None or path is None or match is None:
            return gr.skip(), gr.skip(), START
        return *_shown(path, match, number), _told(match, number)

    def forget() -> tuple[Any, ...]:
        return None, gr.Radio([], value=None), None, gr.Image(value=None, visible=True), START

    outputs = [kept, words, patches, attention, status]
    gr.on([button.click, text.submit], find, [picture, text], outputs, api_name="match_words", show_progress="minimal")
    if ready is not None:
        ready.load_input_event.then(find, [picture, text], outputs, api_visibility="private", show_progress="minimal")
    words.input(
        pick,
        [words, picture, kept],
        [patches, attention, status],
        api_visibility="private",
        show_progress="hidden",
    )
    picture.input(forget, None, outputs, api_visibility="private", show_progress="hidden")


def _drawing(label: str, elem_id: str) -> gr.Image:
    gr.HTML(label, elem_classes=["vlkd-status", "vlkd-flat"])  # above it: the component's own label lies on the picture
    return gr.Image(
        label=label,
        show_label=False,
        format="png",
        interactive=False,
        height="auto",
        elem_id=elem_id,
        buttons=[],
    )


def _examples(examples: Sequence[Found], picture: gr.Image, text: gr.Textbox) -> Any:
    """Pictures with a caption fill both fields, so that one click shows an answer."""
    told = [[found.picture, min(found.captions, key=len)] for found in examples if found.captions]
    if told:
        return gr.Examples(told, [picture, text], label="For example", examples_per_page=4)
    if examples:
        gr.Examples([[found.picture] for found in examples], [picture], label="For example", examples_per_page=8)
    return None


def _shown(path: str, match: WordMatch, number: int) -> tuple[Image.Image, Any]:
    picture = decode_picture(Path(path).read_bytes(), PictureLimits())
    word = match.words[number]
    attention = draw_attention(picture, match, word)
    return draw_patches(picture, match, word), gr.Image(value=attention, visible=attention is not None)


def _told(match: WordMatch, number: int) -> str:
    word = match.words[number]
    row, column = word.top[0]
    best = float(word.scores[row, column])
    told = f"<b>{escape(word.text)}</b>: best in row {row + 1}, column {column + 1}, cosine {best:.3f}"
    return told if word.attention is not None else f"{told}; {NO_ATTENTION}"
