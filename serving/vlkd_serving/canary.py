"""A tiny request through the real parts of a model: warm-up at the start, truth for readiness later."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from vlkd_serving.errors import OverloadedError
from vlkd_serving.served_model import ServedModel, gather_all

__all__ = ["check_model"]

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
