"""Checks on a query or a question before it reaches the tokenizer."""

from __future__ import annotations

from vlkd_serving.errors import BadRequestError, UnprocessableError

__all__ = ["require_text"]


def require_text(value: str, param: str, max_chars: int) -> str:
    """Check a query or question.

    Raises:
        BadRequestError: empty, or white space only.
        UnprocessableError: too long, or holding NUL or half a surrogate pair.
    """
    if not value.strip():
        raise BadRequestError(f"'{param}' must not be empty.", param)
    if len(value) > max_chars:
        raise UnprocessableError(f"'{param}' may have at most {max_chars} characters, got {len(value)}.", param)
    if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise UnprocessableError(f"'{param}' must be plain Unicode text, without NUL or lone surrogates.", param)
    return value
