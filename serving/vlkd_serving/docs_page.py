"""The page behind ``/docs``: plain HTML from the OpenAPI document, without scripts and without a network."""

from __future__ import annotations

import json
from html import escape
from typing import Any

__all__ = ["render_docs"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
details{border:1px solid #d0d7de;border-radius:6px;margin:.4rem 0;padding:.5rem .8rem}
summary{cursor:pointer}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:#f6f8fa;padding:.7rem;overflow:auto;border-radius:6px}
.m{display:inline-block;width:3.5rem;font-weight:600;color:#0550ae}table{border-collapse:collapse;width:100%}
td,th{border-top:1px solid #d0d7de;padding:.25rem .5rem;text-align:left;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22}
details,td,th{border-color:#30363d}.m{color:#79c0ff}}
"""
_SHOWN = 60
"""Characters of an example's string that the curl command shows."""


def render_docs(document: dict[str, Any], base_url: str) -> str:
    """The page.

    Args:
        document: the application's OpenAPI document.
        base_url: address that the examples use.
    """
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            groups.setdefault(tag, []).append(_operation(method, path, operation, base_url))
    info = document["info"]
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(rows)}" for tag, rows in groups.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])} API</title>"
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info.get('description', ''))}</p>"
        f'<p>The same as data: <a href="/openapi.json">/openapi.json</a></p>{body}</html>'
    )


def _operation(method: str, path: str, operation: dict[str, Any], base_url: str) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    schema = next((each["schema"] for each in content.values()), None)
    answers = "".join(
        f"<tr><td>{escape(code)}<td>{escape(answer.get('description', ''))}"
        for code, answer in operation["responses"].items()
    )
    return (
        f"<details><summary><span class=m>{method.upper()}</span> <code>{escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary><p>{escape(operation.get('description', ''))}</p>"
        f"{_fields(schema)}<pre>{escape(_curl(method, path, content, base_url))}</pre>"
        f"<table><tr><th>Status<th>Meaning{answers}</table></details>"
    )


def _fields(schema: dict[str, Any] | None) -> str:
    if not schema or "properties" not in schema:
        return ""
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' (required)' if name in required else ''}"
        f"<td>{escape(_type(field))}<td>{escape(field.get('description', ''))}"
        for name, field in schema["properties"].items()
    )
    return f"<table><tr><th>Field<th>Type<th>Meaning{rows}</table>"


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("type", "any"))


def _curl(method: str, path: str, content: dict[str, Any], base_url: str) -> str:
    address = f"{base_url}{path}"
    if method == "get":
        return f"curl {address}"
    schema = content.get("application/json", {}).get("schema")
    if schema is None:
        form: dict[str, Any] = next(iter(content.values()), {})
        fields = form.get("schema", {}).get("properties", {})
        return f"curl {address} " + " ".join(f"-F {name}=..." for name in fields)
    example = {name: field["examples"][0] for name, field in schema["properties"].items() if "examples" in field}
    return f"curl {address} -H 'Content-Type: application/json' -d '{json.dumps(_shortened(example))}'"


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    return value[:_SHOWN] + "..." if isinstance(value, str) and len(value) > _SHOWN else value
