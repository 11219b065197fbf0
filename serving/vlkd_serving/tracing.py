"""OpenTelemetry spans, where the extra ``tracing`` is installed and switched on; else nothing at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from vlkd_hub._optional import require

__all__ = ["disable_tracing", "enable_tracing", "request_span", "span", "trace_id"]

_tracer: Any = None


def enable_tracing(exporter: Any = None) -> Any:
    """Switch spans on for this process.

    Args:
        exporter: an OpenTelemetry span exporter; None sends to the OTLP address that the standard environment
            variables name (``OTEL_EXPORTER_OTLP_ENDPOINT``).

    Returns:
        The tracer provider; its ``shutdown()`` sends what is left and switches spans off again.

    Raises:
        MissingDependencyError: OpenTelemetry is not installed.
    """
    global _tracer
    sdk = require("opentelemetry.sdk.trace", "tracing")
    export = require("opentelemetry.sdk.trace.export", "tracing")
    resources = require("opentelemetry.sdk.resources", "tracing")
    if exporter is None:
        exporter = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", "tracing").OTLPSpanExporter()
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": "vlkd"}))
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("vlkd_serving")
    return provider


def disable_tracing() -> None:
    """Switch spans off."""
    global _tracer
    _tracer = None


def span(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """A span around a stage; free when tracing is off."""
    if _tracer is None:
        return nullcontext()
    manager: AbstractContextManager[Any] = _tracer.start_as_current_span(name, attributes=attributes)
    return manager


@contextmanager
def request_span(name: str, headers: Mapping[bytes, bytes], **attributes: Any) -> Iterator[Any]:
    """The span of one request, a child of the caller's where a ``traceparent`` header came; yields None when off."""
    if _tracer is None:
        yield None
        return
    propagation = require("opentelemetry.trace.propagation.tracecontext", "tracing")
    trace = require("opentelemetry.trace", "tracing")
    texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
    parent = propagation.TraceContextTextMapPropagator().extract(texts)
    kind = trace.SpanKind.SERVER
    with _tracer.start_as_current_span(name, context=parent, kind=kind, attributes=attributes) as current:
        yield current


def trace_id(current: Any) -> str | None:
    """The trace of a span of :func:`request_span` in hexadecimal, or None when tracing is off."""
    return None if current is None else format(current.get_span_context().trace_id, "032x")
