"""What one sees of a request from outside: log lines, spans, the docs page; and its end when the client goes."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest

from vlkd_serving import tracing
from vlkd_serving.disconnect import DisconnectMiddleware
from vlkd_serving.logs import JsonFormatter, configure_logging


@pytest.fixture
def plain_logging() -> Iterator[None]:
    """Put the loggers back."""
    names = ("vlkd", "vlkd.access", "uvicorn")
    before = [(logging.getLogger(n), logging.getLogger(n).handlers, logging.getLogger(n).level) for n in names]
    yield
    for logger, handlers, level in before:
        logger.handlers, logger.propagate = handlers, True
        logger.setLevel(level)


def test_a_json_line_for_each_request(
    make_client: Callable[..., Any], capsys: pytest.CaptureFixture[str], plain_logging: None
) -> None:
    """With the id that the client sees; an error's trace is in the log and not in the answer."""
    configure_logging("json")
    make_client().post("/v1/search", json={"text": "red"}, headers={"x-request-id": "abc-1"})
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["request_id"], line["route"], line["status"], line["method"]) == ("abc-1", "/v1/search", 200, "POST")
    assert line["ms"] > 0 and line["level"] == "INFO" and line["time"].endswith("+00:00")


def test_an_error_in_the_log_has_its_trace() -> None:
    """On the same line, so that it stays together."""
    try:
        raise ValueError("inside")
    except ValueError as error:
        record = logging.LogRecord("vlkd", logging.ERROR, "x", 1, "failed", (), (type(error), error, None))
    line = json.loads(JsonFormatter().format(record))
    assert "ValueError: inside" in line["error"] and line["message"] == "failed"


def test_spans(make_client: Callable[..., Any]) -> None:
    """One for the request, a child of the caller's, and one for the engine's work inside it."""
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = tracing.enable_tracing(exporter)
    try:
        trace = "0af7651916cd43dd8448eb211c80319c"
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        assert make_client().post("/v1/search", json={"text": "red"}, headers=headers).status_code == 200
        provider.force_flush()
    finally:
        tracing.disable_tracing()
        provider.shutdown()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request, work = spans["POST /v1/search"], spans["engine.search"]
    assert format(request.context.trace_id, "032x") == trace and work.parent.span_id == request.context.span_id
    assert request.attributes["http.response.status_code"] == 200 and request.attributes["http.route"] == "/v1/search"
    assert work.attributes["items"] == 1


def test_tracing_off_costs_nothing() -> None:
    """No import, no span."""
    with tracing.span("x") as nothing, tracing.request_span("y", {}) as none:
        assert nothing is None and none is None and tracing.trace_id(none) is None


def test_the_docs_page_loads_nothing(client: Any) -> None:
    """Every route is on it, and nothing points to another host."""
    page = client.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text and "//cdn" not in page.text
    document = client.get("/openapi.json").json()
    for path in document["paths"]:
        assert path in page.text
    assert {"native", "OpenAI", "Hugging Face", "KServe v2", "text-embeddings-inference", "Immich"} <= {
        tag for operations in document["paths"].values() for each in operations.values() for tag in each["tags"]
    }


def test_examples_of_the_document_are_valid_requests(client: Any) -> None:
    """What the page shows works when it is copied; only `entail` and `match` need another model."""
    document = client.get("/openapi.json").json()
    tried = 0
    for path, operations in document["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            continue
        properties = content["application/json"]["schema"]["properties"]
        example = {name: field["examples"][0] for name, field in properties.items() if "examples" in field}
        answer = client.post(path.replace("{model}", "fake"), json=example)
        assert answer.status_code == {"/v1/entail": 422, "/v1/match": 404}.get(path, 200), (path, example, answer.text)
        tried += 1
    assert tried >= 14
    bodies = [each.get("requestBody") for operations in document["paths"].values() for each in operations.values()]
    assert "$ref" not in json.dumps(bodies)


def test_a_client_that_goes_away_ends_its_work(live_server: Callable[..., str], fake: ModuleType) -> None:
    """What was admitted for it is free again long before it would have been done."""
    address = httpx.URL(live_server(fake.FakeStudent(step_s=1.0), max_inflight=1))
    body = json.dumps({"image": PIXEL}).encode()
    with socket.create_connection((address.host, address.port)) as raw:
        lines = [
            "POST /v1/caption HTTP/1.1",
            "Host: x",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        raw.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        time.sleep(0.3)
    with httpx.Client(base_url=address, timeout=10) as client:
        until = time.monotonic() + 2
        while "vlkd_inflight 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert 'code="499",route="/v1/caption"' in client.get("/metrics").text


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"


def test_a_cancellation_from_outside_is_not_swallowed() -> None:
    """Only a disconnect ends quietly; a server that stops must see its own cancellation."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(10)

    async def main() -> None:
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await asyncio.sleep(10)

        task = asyncio.create_task(DisconnectMiddleware(app)({"type": "http"}, receive, None))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
