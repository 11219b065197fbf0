"""Read a request's body, JSON or multipart, within its limits, into a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from vlkd_serving.errors import BadRequestError, UnprocessableError, UnsupportedMediaError
from vlkd_serving.schemas import explain

__all__ = ["Payload", "body_schema", "read_payload"]

Schema = TypeVar("Schema", bound=BaseModel)
_JSON = "application/json"
_MULTIPART = "multipart/form-data"
_IMAGE = "image"
_MAX_FORM_FIELDS = 16


@dataclass(frozen=True)
class Payload(Generic[Schema]):
    """A parsed request: the fields, and the picture's bytes where it came as a file."""

    fields: Schema
    upload: bytes | None


async def read_payload(request: Request, schema: type[Schema], *, multipart: bool = True) -> Payload[Schema]:
    """Parse the body by its content type.

    In a multipart body the field ``image`` is a file; the others are text, and numbers are read from it.

    Raises:
        BadRequestError: empty or malformed.
        UnsupportedMediaError: another content type.
        UnprocessableError: the fields do not fit ``schema``.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == _JSON:
        return Payload(_validate(schema, _parse_json(await request.body())), None)
    if kind == _MULTIPART and multipart:
        return await _read_form(request, schema)
    accepted = f"{_JSON} or {_MULTIPART}" if multipart else _JSON
    raise UnsupportedMediaError(f"The content type must be {accepted}.", "content-type")


def body_schema(schema: type[BaseModel], *, multipart: bool = True) -> dict[str, Any]:
    """The OpenAPI description of a body that :func:`read_payload` reads."""
    described = schema.model_json_schema()
    content: dict[str, Any] = {_JSON: {"schema": described}}
    if multipart:
        form = {**described["properties"], _IMAGE: {"type": "string", "format": "binary"}}
        content[_MULTIPART] = {"schema": {**described, "properties": form}}
    return {"requestBody": {"required": True, "content": content}}


def _parse_json(body: bytes) -> Any:
    if not body.strip():
        raise BadRequestError("The body is empty; send a JSON object.")
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadRequestError("The body is not valid JSON.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _validate(schema: type[Schema], values: Any, *, strict: bool = True) -> Schema:
    try:
        return schema.model_validate(values, strict=strict)
    except ValidationError as error:
        raise explain(error, list(schema.model_fields)) from None


async def _read_form(request: Request, schema: type[Schema]) -> Payload[Schema]:
    limit = request.app.state.settings.max_picture_bytes
    try:
        form = await request.form(max_files=1, max_fields=_MAX_FORM_FIELDS, max_part_size=limit)
    except (HTTPException, MultiPartException):
        raise BadRequestError(f"The form is malformed, or has more than 1 file or {_MAX_FORM_FIELDS} fields.") from None
    try:
        values, upload = await _split_form(form)
    finally:
        await form.close()
    if upload is not None and _IMAGE in schema.model_fields:
        values[_IMAGE] = ""  # the bytes travel beside the fields
    return Payload(_validate(schema, values, strict=False), upload)


async def _split_form(form: Mapping[str, UploadFile | str]) -> tuple[dict[str, Any], bytes | None]:
    values: dict[str, Any] = {}
    upload: bytes | None = None
    for name, value in form.items():
        if isinstance(value, str):
            values[name] = value
        elif name == _IMAGE:
            upload = await value.read()
        else:
            raise UnprocessableError(f"Only '{_IMAGE}' may be a file.", _IMAGE)
    return values, upload
