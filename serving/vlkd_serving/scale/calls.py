"""Calls between replicas: they carry the request's deadline, and are sent again when the replica that had them died.

Every call here only reads, so that sending one twice does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

from vlkd_hub._optional import require
from vlkd_hub.errors import VlkdError
from vlkd_serving.context import RequestContext, current, enter
from vlkd_serving.errors import DeadlineError, UnavailableError

__all__ = ["SENDS", "answer", "arrive", "ask"]

logger = logging.getLogger("vlkd.serving")

SENDS = 3
"""How often a call is sent at most. A request that kills whoever reads it must not take every replica along."""
_PAUSE_S = 0.05
Value = TypeVar("Value")


async def ask(method: Any, deadline: float, *args: Any) -> Any:
    """Call a method of some replica of a deployment.

    Args:
        method: of a deployment handle, for example ``handle.search``; its first argument is a :class:`RequestContext`.
        deadline: on the event loop's clock; the replica learns the seconds that are left.
        *args: further arguments.

    Raises:
        VlkdError: what the replica answered instead of a result.
        DeadlineError: no answer in time; the replica is told to stop.
        UnavailableError: the replicas died under the call, :data:`SENDS` of them.
    """
    for attempt in range(SENDS):
        await asyncio.sleep(attempt * _PAUSE_S)
        try:
            return await _send(method, deadline, args)
        except VlkdError:
            raise
        except Exception as error:
            if isinstance(error, require("ray.exceptions", "scale").RayActorError):
                logger.warning("request %s: its replica died (%s)", current().request_id, type(error).__name__)
                continue
            if isinstance(error, require("ray.serve.exceptions", "scale").DeploymentUnavailableError):
                raise UnavailableError("A part of the server cannot start; retry later.") from error
            raise
    raise UnavailableError(f"{SENDS} replicas died while they worked on this request.")


async def _send(method: Any, deadline: float, args: tuple[Any, ...]) -> Any:
    left = deadline - asyncio.get_running_loop().time()
    response = method.remote(replace(current(), timeout_s=max(left, 0.0)), *args)
    try:
        async with asyncio.timeout_at(deadline):
            found = await response
    except TimeoutError:
        response.cancel()
        raise DeadlineError("The answer was not ready in time.") from None
    except asyncio.CancelledError:
        response.cancel()
        raise
    if isinstance(found, VlkdError):
        raise found
    return found


def arrive(context: RequestContext) -> float:
    """In a replica: make the caller's context this task's; returns the deadline on this event loop's clock."""
    enter(context)
    return asyncio.get_running_loop().time() + (context.timeout_s or 0.0)


async def answer(work: Awaitable[Value]) -> Value | VlkdError:
    """The result, or the error that was raised on purpose as a value: a client's mistake is no failure of a replica."""
    try:
        return await work
    except VlkdError as error:
        return error.with_traceback(None)
