"""Bodies while they are read: one may be too long, all together too much, and a slow one too late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from vlkd_serving.bodies import BodyLimits
from vlkd_serving.errors import DeadlineError, OverloadedError, TooLargeError
from vlkd_serving.metrics import Metrics


def limits(**options: Any) -> BodyLimits:
    return BodyLimits(**{"each": 100, "together": 150, "seconds": 5.0, "metrics": Metrics(), **options})


def parts(*sizes: int, then: Callable[[], Any] | None = None) -> Callable[[], Any]:
    """``receive`` of a body in parts; behind the last one ``then`` is awaited."""
    messages = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]
    if then is None:
        messages[-1]["more_body"] = False

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await (then or asyncio.Event().wait)()

    return receive


async def read(receive: Callable[[], Any]) -> int:
    total, more = 0, True
    while more:
        message = await receive()
        total, more = total + len(message["body"]), message["more_body"]
    return total


def test_one_body_may_be_too_long() -> None:
    """Found on the way, without a declared length; what it held is given back."""

    async def main() -> None:
        both = limits()
        with pytest.raises(TooLargeError, match="at most 100 bytes"), both.reading(parts(60, 60)) as receive:
            await read(receive)
        with both.reading(parts(90)) as receive:
            assert await read(receive) == 90

    asyncio.run(main())


def test_all_together_may_be_too_much() -> None:
    """Two that are still being read fill the room; the third is refused, and comes in when one has gone."""

    async def main() -> None:
        both = limits()
        with both.reading(parts(70, then=asyncio.Event().wait)) as one:
            await one()
            with both.reading(parts(70, then=asyncio.Event().wait)) as two:
                await two()
                with pytest.raises(OverloadedError, match="retry"), both.reading(parts(70)) as three:
                    await read(three)
            with both.reading(parts(70)) as three:
                assert await read(three) == 70

    asyncio.run(main())


def test_a_body_must_come_in_time_and_an_answer_need_not() -> None:
    """A drip ends at the deadline; once the body is whole, waiting for the client to leave has none."""

    async def main() -> None:
        late = limits(seconds=0.05)
        with pytest.raises(DeadlineError, match="within 0.05 seconds"):
            with late.reading(parts(10, then=asyncio.Event().wait)) as receive:
                await read(receive)

        async def leaves() -> Any:
            await asyncio.sleep(0.2)
            return {"type": "http.disconnect"}

        messages = [{"type": "http.request", "body": b"x", "more_body": False}]

        async def whole() -> Any:
            return messages.pop() if messages else await leaves()

        with late.reading(whole) as receive:
            assert await read(receive) == 1
            assert (await receive())["type"] == "http.disconnect"

    asyncio.run(main())
