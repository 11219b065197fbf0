"""JSON bodies, written by a library that takes numpy's numbers as they are."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
from fastapi import Response
from pydantic import BaseModel

from vlkd_serving.protocol import Floats

__all__ = ["encode_vector", "json_response"]


def json_response(body: Any) -> Response:
    """A JSON answer.

    Args:
        body: a model of ``vlkd_serving.schemas``, or lists and dictionaries that may hold numpy arrays and models.
    """
    content = orjson.dumps(body, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")


def encode_vector(vector: Floats, encoding: str | None) -> Floats | str:
    """An embedding for a JSON body: as numbers, or for ``base64`` its little-endian fp32 bytes."""
    if encoding == "base64":
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")
    return np.ascontiguousarray(vector, dtype=np.float32)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"no JSON for {type(value).__name__}")
