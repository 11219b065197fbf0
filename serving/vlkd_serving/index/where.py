"""Filters in words: ``class = 'beach' AND (price < 10 OR tags CONTAINS 'sale')``, parsed, never pasted into SQL.

Grammar (keywords in any case)::

    filter     := all ("OR" all)*
    all        := one ("AND" one)*
    one        := "NOT" one | "(" filter ")" | comparison
    comparison := field ("=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
                | field ["NOT"] "IN" "(" value ("," value)* ")"
                | field ["NOT"] "LIKE" text | field ["NOT"] "CONTAINS" value | field "IS" ["NOT"] "NULL"
    field      := name ("." name)* | '"any name"'      id and path are the item's own, all others metadata
    value      := 'text' ('' is a quote) | number | TRUE | FALSE

``CONTAINS`` looks into a list. As in SQL, a comparison with a missing field is neither true nor false.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from vlkd_serving.index.errors import WhereError

__all__ = ["Condition", "parse_where"]

Value: TypeAlias = str | int | float
_MAX_CHARS = 4000
_MAX_COMPARISONS = 100
_MAX_DEPTH = 20
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<quoted>"[^"\\\x00]+")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)"""
    r"""|(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)|(?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,))"""
)
_OPERATORS = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_WORDS = {"and", "or", "not", "in", "like", "contains", "is", "null", "true", "false"}
_MAX_INT = 2**63 - 1


@dataclass(frozen=True)
class Condition:
    """A parsed filter.

    Args:
        sql: an expression of SQLite that this module wrote; everything of the user's is a ``?`` in it.
        values: what the question marks stand for.
        until: when applying it must have ended, on the clock of :func:`time.monotonic`; no part of what it means.
    """

    sql: str
    values: tuple[Value, ...]
    until: float | None = field(default=None, compare=False)

    @property
    def seconds_left(self) -> float | None:
        """How long applying it may still take, at least 0; None: as long as it wants."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())


def parse_where(text: str, until: float | None = None) -> Condition:
    """Parse a filter.

    Args:
        text: the filter.
        until: see :class:`Condition`.

    Raises:
        WhereError: it does not follow the grammar, or is too long or deep; the message shows the place.
    """
    if len(text) > _MAX_CHARS:
        raise WhereError(f"A filter may have {_MAX_CHARS} characters, got {len(text)}.")
    return replace(_Parser(text).parse(), until=until)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int

    @property
    def word(self) -> str:
        """A keyword in lower case, or nothing."""
        return self.text.lower() if self.kind == "name" and self.text.lower() in _WORDS else ""


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._at = 0
        self._values: list[Value] = []
        self._comparisons = 0

    def parse(self) -> Condition:
        sql = self._filter(0)
        if self._next.kind != "end":
            raise self._error("expected AND, OR or the end")
        return Condition(sql, tuple(self._values))

    def _split(self) -> list[_Token]:
        tokens, position = [], 0
        while self._text[position:].strip():
            match = _TOKEN.match(self._text, position)
            if match is None:
                raise WhereError(_message(self._text, position, "this cannot be read"))
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            position = match.end()
        return [*tokens, _Token("end", "", len(self._text))]

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _error(self, expected: str) -> WhereError:
        return WhereError(_message(self._text, self._next.position, expected))

    def _take(self, *texts: str) -> str:
        """Step over one of these keywords or signs and return it, or return nothing."""
        found = self._next.word or (self._next.text if self._next.kind == "sign" else "")
        if found not in texts:
            return ""
        self._at += 1
        return found

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._error(f"expected {text.upper()}")

    def _filter(self, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise self._error(f"brackets and NOT may be nested {_MAX_DEPTH} deep")
        parts = [self._all(depth)]
        while self._take("or"):
            parts.append(self._all(depth))
        return "(" + " OR ".join(parts) + ")"

    def _all(self, depth: int) -> str:
        parts = [self._one(depth)]
        while self._take("and"):
            parts.append(self._one(depth))
        return "(" + " AND ".join(parts) + ")"

    def _one(self, depth: int) -> str:
        if self._take("not"):
            if depth > _MAX_DEPTH:
                raise self._error(f"brackets and NOT may be nested {_MAX_DEPTH} deep")
            return f"(NOT {self._one(depth + 1)})"
        if self._take("("):
            inner = self._filter(depth + 1)
            self._need(")")
            return inner
        return self._comparison()

    def _comparison(self) -> str:
        self._comparisons += 1
        if self._comparisons > _MAX_COMPARISONS:
            raise self._error(f"a filter may hold {_MAX_COMPARISONS} comparisons")
        field = self._field()
        if sign := self._take(*_OPERATORS):
            left = self._column(field)
            return f"({left} {_OPERATORS[sign]} {self._value()})"
        if self._take("is"):
            negative = self._take("not")
            self._need("null")
            return f"({self._column(field)} IS {'NOT ' if negative else ''}NULL)"
        negative = "NOT " if self._take("not") else ""
        if self._take("in"):
            return f"({self._column(field)} {negative}IN ({self._list()}))"
        if self._take("like"):
            if self._next.kind != "text":
                raise self._error("expected a text in single quotes")
            return f"({self._column(field)} {negative}LIKE {self._value()})"
        if self._take("contains"):
            return self._contains(field, negative)
        raise self._error("expected =, !=, <, <=, >, >=, IN, LIKE, CONTAINS or IS")

    def _contains(self, field: str, negative: str) -> str:
        if field in ("id", "path"):
            raise self._error(f"{field} is a text, not a list: use LIKE")
        self._values.append(field)
        found = f"EXISTS (SELECT 1 FROM json_each(metadata, ?) WHERE json_each.value = {self._value()})"
        return f"({negative}{found})"

    def _list(self) -> str:
        self._need("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._need(")")
        return ", ".join(values)

    def _field(self) -> str:
        token = self._next
        if token.kind == "quoted":
            self._at += 1
            return f"$.{token.text}"
        if token.kind != "name" or token.word:
            raise self._error('expected the name of a field (in "double quotes" if it is an unusual one)')
        self._at += 1
        if token.text in ("id", "path"):
            return token.text
        return "$." + ".".join(f'"{name}"' for name in token.text.split("."))

    def _column(self, field: str) -> str:
        if field in ("id", "path"):
            return f"items.{field}"
        self._values.append(field)
        return "json_extract(metadata, ?)"

    def _value(self) -> str:
        token = self._next
        if token.kind == "text":
            value: Value = token.text[1:-1].replace("''", "'")
        elif token.kind == "number":
            value = float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
            if isinstance(value, int) and abs(value) > _MAX_INT:
                raise self._error("a number of at most 64 bits")
        elif token.word in ("true", "false"):
            value = int(token.word == "true")
        else:
            raise self._error("expected a 'text' in single quotes, a number, TRUE or FALSE")
        self._at += 1
        self._values.append(value)
        return "?"


def _message(text: str, position: int, expected: str) -> str:
    before, after = text[max(0, position - 30) : position], text[position : position + 30]
    return f"The filter cannot be read at >>>: {before}>>>{after} ({expected})."
