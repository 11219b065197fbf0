"""The body of every error, and how a request that does not fit its schema is explained."""

from __future__ import annotations

from pydantic import BaseModel, Field, ValidationError

from vlkd_serving.errors import UnprocessableError

__all__ = ["ErrorBody", "ErrorResponse", "explain"]


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(examples=["invalid_input"])
    message: str = Field(examples=["'k' must be at least 1, got 0."])
    param: str | None = Field(examples=["k"])
    request_id: str


class ErrorResponse(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


_TEXTS = ("input", "inputs")
_BOUNDS = {
    "less_than_equal": ("le", "be at most"),
    "greater_than": ("gt", "be more than"),
    "too_short": ("min_length", "hold at least"),
    "too_long": ("max_length", "hold at most"),
    "string_too_short": ("min_length", "have at least this many characters:"),
    "string_too_long": ("max_length", "have at most this many characters:"),
}
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "string_type": "a string",
    "list_type": "a list",
    "bool_type": "true or false",
    "string_unicode": "plain Unicode text, without lone surrogates",
    "model_type": "a JSON object",
    "dict_type": "a JSON object",
    "float_type": "a number",
    "finite_number": "a finite number",
}


def explain(error: ValidationError, known: list[str]) -> UnprocessableError:
    """Turn a validation error into one in our own words: the field, the value where it is short, and the limit."""
    first = error.errors(include_url=False)[0]
    name = _path(first["loc"])
    kind, context = first["type"], first.get("ctx", {})
    if kind == "missing":
        return UnprocessableError(f"'{name}' is required.", name)
    if kind == "extra_forbidden":
        shown = name if name.isprintable() and len(name) <= 40 else "(unprintable)"
        return UnprocessableError(f"Unknown field '{shown}'; known are: {', '.join(known)}.", shown)
    if kind == "greater_than_equal":
        return UnprocessableError(f"'{name}' must be at least {context['ge']}, got {first['input']}.", name)
    if kind == "literal_error":
        return UnprocessableError(f"'{name}' must be {context['expected']}.", name)
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return UnprocessableError(f"'{name}' must {words} {context[key]}.", name)
    expected = _EXPECTED.get(kind, "of another type or value")
    if name in _TEXTS:
        expected = "a string or a list of strings"
    return UnprocessableError(f"'{name}' must be {expected}.", name)


def _path(location: tuple[int | str, ...]) -> str:
    """``("messages", 0, "content", "str")`` -> ``messages.0.content``: the field, without pydantic's own words."""
    names = [str(part) for part in location if isinstance(part, int) or part.isidentifier()]
    if len(names) > 1 and names[0] in _TEXTS:
        names = names[:1]
    return ".".join(names[:4]) or "body"
