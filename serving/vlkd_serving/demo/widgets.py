"""Parts that several tabs of the page are made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import gradio as gr

from vlkd_hub.errors import VlkdError
from vlkd_serving.demo.backend import Found

__all__ = ["picture_examples", "picture_input", "status_line", "timed"]

Value = TypeVar("Value")


def picture_input(label: str, elem_id: str, height: int = 320) -> gr.Image:
    """A place for a picture; its value is the path of the uploaded file."""
    picture = gr.Image(
        label=label,
        type="filepath",
        format="png",
        sources=["upload", "clipboard"],
        height=height,
        elem_id=elem_id,
        buttons=[],
    )
    # The uploaded file itself, not what Gradio's decoders make of it: ours take three formats and check limits first.
    picture.preprocess = lambda payload: payload.path if payload is not None else None  # type: ignore[method-assign]
    return picture


def picture_examples(examples: Sequence[Found], picture: gr.Image) -> None:
    """A row of pictures to click on, where there are some."""
    if examples:
        gr.Examples([[found.picture] for found in examples], [picture], label="For example", examples_per_page=8)


def timed(ask: Callable[[], Value]) -> tuple[Value, float]:
    """The answer and how long it took; an error becomes a message on the page."""
    begin = time.perf_counter()
    try:
        return ask(), time.perf_counter() - begin
    except VlkdError as error:
        raise gr.Error(str(error), title="This did not work", print_exception=False) from None


def status_line(seconds: float, what: str) -> str:
    """How long an answer took, and what it is; HTML."""
    return f"<b>{seconds * 1000:.0f} ms</b> · {what}"
