"""Read a request's body, JSON or multipart, within its limits, into a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from vlkd_serving.errors import BadRequestError, UnprocessableError, UnsupportedMediaError
from vlkd_serving.images import has_signature
from vlkd_serving.schemas.errors import explain

__all__ = ["Payload", "body_schema", "read_form", "read_payload"]

Schema = TypeVar("Schema", bound=BaseModel)
_JSON = "application/json"
_MULTIPART = "multipart/form-data"
_IMAGE = "image"
_OCTETS = ("application/octet-stream", "binary/octet-stream")
_MAX_FORM_FIELDS = 16


@dataclass(frozen=True)
class Payload(Generic[Schema]):
    """A parsed request: the fields, and the picture's bytes where it came as a file."""

    fields: Schema
    upload: bytes | None


async def read_payload(
    request: Request, schema: type[Schema], *, multipart: bool = True, raw: str | None = None
) -> Payload[Schema]:
    """Parse the body by its content type.

    In a multipart body the field ``image`` is a file; the others are text, and numbers are read from it. A body that
    is a picture itself (``image/*``, octets, or without any type, as some clients send bytes) is taken where ``raw``
    names the field that it stands for.

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
    if raw is not None and await _is_picture(request, kind):
        return Payload(_validate(schema, {raw: ""}), await request.body())
    accepted = " or ".join([_JSON, *[_MULTIPART] * multipart, *["a picture's own"] * (raw is not None)])
    raise UnsupportedMediaError(f"The content type must be {accepted}.", "content-type")


def body_schema(schema: type[BaseModel], *, multipart: bool = True, raw: bool = False) -> dict[str, Any]:
    """The OpenAPI description of a body that :func:`read_payload` reads."""
    described = _inlined(schema.model_json_schema())
    content: dict[str, Any] = {_JSON: {"schema": described}}
    if multipart:
        form = {**described["properties"], _IMAGE: {"type": "string", "format": "binary"}}
        content[_MULTIPART] = {"schema": {**described, "properties": form}}
    if raw:
        for kind in ("image/*", _OCTETS[0]):
            content[kind] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with every ``$ref`` into its own ``$defs`` replaced, since OpenAPI keeps definitions elsewhere."""
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            rest = {key: value for key, value in node.items() if key != "$ref"}
            return {**inline(definitions[node["$ref"].rsplit("/", 1)[1]]), **inline(rest)}
        return {key: inline(value) for key, value in node.items()}

    inlined: dict[str, Any] = inline(schema)
    return inlined


async def _is_picture(request: Request, kind: str) -> bool:
    """Whether the body is a picture: by its content type, or without one by its first bytes."""
    if kind:
        return kind in _OCTETS or kind.startswith("image/")
    body = await request.body()
    if not body:
        raise BadRequestError("The body is empty; send a JSON object or a picture.")
    return has_signature(body)


def _parse_json(body: bytes) -> Any:
    if not body.strip():
        raise BadRequestError("The body is empty; send a JSON object.")
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(body)
    try:  # again by the library that takes half a surrogate pair and any depth, for an error that names the field
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
    values, upload = await read_form(request)
    if upload is not None and _IMAGE in schema.model_fields:
        values[_IMAGE] = ""  # the bytes travel beside the fields
    return Payload(_validate(schema, values, strict=False), upload)


async def read_form(request: Request) -> tuple[dict[str, Any], bytes | None]:
    """The text fields of a multipart body, and the bytes of its file ``image``.

    Raises:
        BadRequestError: malformed, or too many parts.
    """
    limit = request.app.state.settings.max_picture_bytes
    try:
        form = await request.form(max_files=1, max_fields=_MAX_FORM_FIELDS, max_part_size=limit)
    except (HTTPException, MultiPartException):
        raise BadRequestError(f"The form is malformed, or has more than 1 file or {_MAX_FORM_FIELDS} fields.") from None
    try:
        return await _split_form(form)
    finally:
        await form.close()


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
