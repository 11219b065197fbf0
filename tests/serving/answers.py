"""What every test of the routes looks for in an answer."""

from __future__ import annotations

import base64
import re
from typing import Any

CAPTION, VQA, SEARCH, EMBED = "/v1/caption", "/v1/vqa", "/v1/search", "/v1/embeddings"
LEAK = re.compile(r"0x[0-9a-f]{4,}|Traceback|/srv/|/tmp/|\.py\b|pydantic|PIL|Pillow|secret detail")


def check_error(response: Any, status: int, param: str | None = None) -> dict[str, Any]:
    """The one shape of every error; nothing of our insides in it."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message", "param", "request_id"}
    assert error["request_id"] == response.headers["x-request-id"] != ""
    assert not LEAK.search(response.text), response.text
    if param is not None:
        assert error["param"] == param
    return error


def counts(text: str) -> dict[str, float]:
    """Series of a Prometheus page with their values."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in lines}


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
