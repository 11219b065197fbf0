"""A chat answer that is sent while it is being written."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any


def test_a_stream_that_fails_says_so_and_is_counted(
    make_client: Callable[..., Any], fake: ModuleType, picture_bytes: Callable[..., bytes]
) -> None:
    """The status line has gone out: the stream itself must tell, and metrics must not count a success."""

    class Failing(fake.FakeStudent):  # type: ignore[misc, name-defined]
        def write(self, *args: Any) -> Any:
            yield next(super().write(*args))
            raise RuntimeError("secret detail")

    client = make_client(Failing())
    encoded = base64.b64encode(picture_bytes("red")).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
    body = {"stream": True, "messages": [{"role": "user", "content": [part]}]}
    answer = client.post("/v1/chat/completions", json=body, headers={"x-request-id": "abc-1"})
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert answer.status_code == 200 and "[DONE]" not in events
    assert json.loads(events[1])["choices"][0]["delta"] == {"content": "a"}
    error = json.loads(events[-1])["error"]
    assert set(error) == {"code", "message", "param", "request_id"} and error["request_id"] == "abc-1"
    assert error["code"] == "internal_error" and "secret" not in answer.text
    metrics = client.get("/metrics").text
    assert 'vlkd_requests_total{code="500",route="/v1/chat/completions"} 1.0' in metrics
    assert 'vlkd_requests_total{code="200",route="/v1/chat/completions"}' not in metrics
