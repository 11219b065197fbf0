"""Calls between replicas: resent when a replica dies, ended at the deadline, errors as values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from vlkd_serving.context import RequestContext, current, enter
from vlkd_serving.errors import DeadlineError, UnavailableError, UnprocessableError
from vlkd_serving.scale.calls import SENDS, answer, arrive, ask

# Of pydantic, when ray.serve is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on:DeprecationWarning")


class Response:
    """What a handle returns: awaitable, can be cancelled."""

    def __init__(self, work: Any) -> None:
        self._work, self.cancelled = work, False

    def __await__(self) -> Any:
        return self._work.__await__()

    def cancel(self) -> None:
        self.cancelled = True


class Method:
    """Answers one call after the other with what it was given: a value, an error to raise, or seconds to wait."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.contexts: list[RequestContext] = []
        self.responses: list[Response] = []

    def remote(self, context: RequestContext, *args: Any) -> Response:
        self.contexts.append(context)
        self.responses.append(Response(self._run(self._answers.pop(0), args)))
        return self.responses[-1]

    async def _run(self, given: Any, args: tuple[Any, ...]) -> Any:
        if isinstance(given, float):
            await asyncio.sleep(given)
        if isinstance(given, Exception) and not isinstance(given, UnprocessableError):
            raise given
        return given if given is not args else args


def run(work: Callable[[float], Any], seconds: float = 5.0) -> Any:
    """``work(deadline)`` on a loop of its own."""

    async def main() -> Any:
        return await work(asyncio.get_running_loop().time() + seconds)

    return asyncio.run(main())


def test_the_context_travels() -> None:
    """Id and priority as they are, the deadline as the seconds that are left."""
    method = Method("found")

    async def work(deadline: float) -> Any:
        enter(RequestContext("r-1", 1, 9.0))
        return await ask(method, deadline, "x")

    assert run(work) == "found"
    (context,) = method.contexts
    assert (context.request_id, context.priority) == ("r-1", 1) and 4.0 < (context.timeout_s or 0) <= 5.0


def test_arrival_is_the_other_end() -> None:
    """The replica's own clock plus what was left; the caller's id in its logs."""

    async def work(_: float) -> None:
        begin = asyncio.get_running_loop().time()
        assert begin + 2.0 <= arrive(RequestContext("r-2", -1, 2.0)) < begin + 2.5
        assert current().request_id == "r-2" and current().priority == -1

    run(work)


def test_a_call_is_sent_again_when_its_replica_dies() -> None:
    """Killed, or out of reach: the next replica gets the call."""
    exceptions = pytest.importorskip("ray.exceptions", reason="needs the extra: scale")
    method = Method(exceptions.ActorDiedError(), exceptions.ActorUnavailableError("away", None), "found")
    assert run(lambda deadline: ask(method, deadline)) == "found"
    assert len(method.contexts) == 3 == SENDS


def test_a_request_that_kills_does_not_kill_every_replica() -> None:
    """After three deaths it is given up, with an error that a client may retry."""
    exceptions = pytest.importorskip("ray.exceptions", reason="needs the extra: scale")
    method = Method(*(exceptions.ActorDiedError() for _ in range(5)))
    with pytest.raises(UnavailableError, match="3 replicas died"):
        run(lambda deadline: ask(method, deadline))
    assert len(method.contexts) == SENDS


def test_other_failures_are_not_resent() -> None:
    """A bug in a replica would only be met again."""
    pytest.importorskip("ray.serve.exceptions", reason="needs the extra: scale")
    method = Method(RuntimeError("bug"), "never")
    with pytest.raises(RuntimeError, match="bug"):
        run(lambda deadline: ask(method, deadline))
    assert len(method.contexts) == 1


def test_a_part_that_cannot_start_is_unavailable() -> None:
    """503, so that a load balancer goes elsewhere."""
    exceptions = pytest.importorskip("ray.serve.exceptions", reason="needs the extra: scale")
    method = Method(exceptions.DeploymentUnavailableError(None))
    with pytest.raises(UnavailableError, match="cannot start"):
        run(lambda deadline: ask(method, deadline))


def test_the_deadline_stops_the_replica() -> None:
    """Nobody waits any more, so nobody works any more."""
    method = Method(5.0)
    with pytest.raises(DeadlineError):
        run(lambda deadline: ask(method, deadline), seconds=0.05)
    assert method.responses[0].cancelled


def test_a_client_that_leaves_stops_the_replica() -> None:
    """As when the request's task is cancelled."""
    method = Method(5.0)

    async def work(deadline: float) -> None:
        task = asyncio.create_task(ask(method, deadline))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(work)
    assert method.responses[0].cancelled


def test_errors_on_purpose_travel_as_values() -> None:
    """A broken picture is the client's: the replica raises nothing, the caller raises it again, field and all."""

    async def broken() -> str:
        raise UnprocessableError("The picture is empty: 0 bytes.", "image")

    async def work(deadline: float) -> None:
        value = await answer(broken())
        assert isinstance(value, UnprocessableError)
        with pytest.raises(UnprocessableError, match="0 bytes") as raised:
            await ask(Method(value), deadline)
        assert raised.value.param == "image"

    run(work)
