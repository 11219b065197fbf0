"""A chat answer as server-sent events, sent while it is being written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from vlkd_serving.chat_task import ChatTask
from vlkd_serving.engine import Engine
from vlkd_serving.questions import GenerationOptions, Text

__all__ = ["TextStream", "chat_events", "start_stream"]


@dataclass
class TextStream:
    """A text that is being written.

    Args:
        work: ends with the whole text.
        tokens: each token as it comes.
        detokenize: the text of the tokens so far.
        first: tokens that were taken from the queue already.
    """

    work: asyncio.Task[Text]
    tokens: asyncio.Queue[int]
    detokenize: Callable[[list[int]], str]
    first: list[int]

    async def pieces(self) -> AsyncIterator[str]:
        """What each token adds to the text; the last piece completes it to exactly the text of :attr:`work`."""
        read = list(self.first)
        sent = ""
        token = read[-1] if read else None
        while token is not None:
            text = self.detokenize(read)
            if text.startswith(sent) and len(text) > len(sent):  # else a clean-up changed what was sent: wait
                yield text[len(sent) :]
                sent = text
            token = await _token_or_end(self.tokens, self.work)
            if token is not None:
                read.append(token)
        whole = (await self.work).text
        if whole.startswith(sent) and len(whole) > len(sent):
            yield whole[len(sent) :]


async def start_stream(engine: Engine, task: ChatTask, options: GenerationOptions, model: str) -> TextStream:
    """Start to write; returns at the first token, so that whatever fails before it is an ordinary error.

    Raises:
        ServingError: as :meth:`vlkd_serving.engine.Engine.write`.
    """
    tokens: asyncio.Queue[int] = asyncio.Queue()
    work = asyncio.create_task(
        engine.write(task.name, task.picture, task.question, options, model, on_token=tokens.put_nowait)
    )
    try:
        first = await _token_or_end(tokens, work)
    except BaseException:
        work.cancel()
        raise
    if first is None:
        work.result()
    return TextStream(work, tokens, engine.detokenizer(model), [] if first is None else [first])


async def chat_events(
    stream: TextStream,
    head: dict[str, Any],
    reason: Callable[[Text], str],
    with_usage: bool,
    failed: Callable[[Exception], bytes],
) -> AsyncIterator[bytes]:
    """The events of one answer: the role, the pieces, the reason of the end, the usage where asked for, ``[DONE]``.

    A client that goes away ends the writing. Where the writing fails, the last event is what ``failed`` makes of it.
    """
    try:
        yield _event(head, {"role": "assistant", "content": ""})
        async for piece in stream.pieces():
            yield _event(head, {"content": piece})
        text = await stream.work
        yield _event(head, {}, reason(text))
        if with_usage:
            usage = {
                "prompt_tokens": text.prompt_tokens,
                "completion_tokens": text.completion_tokens,
                "total_tokens": text.prompt_tokens + text.completion_tokens,
            }
            yield b"data: " + orjson.dumps({**head, "choices": [], "usage": usage}) + b"\n\n"
        yield b"data: [DONE]\n\n"
    except Exception as error:  # the status line has gone out: the stream itself has to tell
        yield b"data: " + failed(error) + b"\n\n"
    finally:
        if not stream.work.done():
            stream.work.cancel()


def _event(head: dict[str, Any], delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n"


async def _token_or_end(tokens: asyncio.Queue[int], work: asyncio.Task[Text]) -> int | None:
    """The next token, or None once the work has ended and no token is left."""
    if not tokens.empty():
        return tokens.get_nowait()
    waiting = asyncio.ensure_future(tokens.get())
    try:
        await asyncio.wait({waiting, work}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        return None if tokens.empty() else tokens.get_nowait()
    finally:
        if not waiting.done():
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
