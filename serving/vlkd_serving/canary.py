"""A tiny request through the real parts of a model: warm-up at the start, truth for readiness later."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from PIL import Image

from vlkd_serving.errors import OverloadedError, ServingError, UnavailableError
from vlkd_serving.served_model import ServedModel, gather_all

__all__ = ["Canary", "check_model"]

KEPT_S = 1.0
"""What a check found is told this long to all who ask."""

TEXT = "a picture"
QUESTION = "what is it?"


async def check_model(model: ServedModel, deadline: float, *, everything: bool = False) -> None:
    """Encode a text and a picture that no cache knows; with ``everything`` also write a token for every task.

    Args:
        model: to be checked.
        deadline: on the event loop's clock.
        everything: for the warm-up, so that no first request pays for a part that never ran.

    Raises:
        ServingError: a part did not answer in time. A full queue is work, not illness: it raises nothing.
        Exception: what the model raised.
    """
    noise = np.random.default_rng().integers(0, 256, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    picture = buffer.getvalue()
    try:
        await gather_all(model.encode_texts([TEXT], deadline), model.encode_picture(picture, "image", deadline))
        for task in model.parts.tasks if everything else ():
            await model.write(task, picture, QUESTION, (None, 1), deadline)
        if everything and model.matches_words:
            await model.match(picture, TEXT, deadline)
    except OverloadedError:
        return


class Canary:
    """Checks a model for all who ask: those who ask together, or within :data:`KEPT_S`, share one check.

    Asking for readiness needs no key, so it must not be a way to keep the model busy.

    Args:
        check: checks the model; raises :class:`ServingError` where it does not answer.
    """

    def __init__(self, check: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._check = check
        self._task: asyncio.Task[str | None] | None = None
        self._ended = 0.0

    async def ask(self) -> None:
        """Wait for a check, or tell what the last one found.

        Raises:
            UnavailableError: the model does not answer.
        """
        now = asyncio.get_running_loop().time()
        if self._task is None or (self._task.done() and now - self._ended >= KEPT_S):
            self._task = asyncio.create_task(self._run())
        problem = await asyncio.shield(self._task)
        if problem is not None:
            raise UnavailableError(problem)

    async def _run(self) -> str | None:
        try:
            await self._check()
        except ServingError as error:
            return error.message
        finally:
            self._ended = asyncio.get_running_loop().time()
        return None
