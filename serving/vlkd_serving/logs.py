"""Logs: a line a request with its id, as text for people or as JSON for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from vlkd_serving.context import current

__all__ = ["JsonFormatter", "configure_logging", "log_request"]

access = logging.getLogger("vlkd.access")
_FIELDS = ("request_id", "method", "route", "status", "ms", "key", "trace_id")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the request's id and fields, and the error if any."""

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        fields = {name: getattr(record, name, None) for name in _FIELDS}
        fields["request_id"] = fields["request_id"] or current().request_id or None
        line |= {name: value for name, value in fields.items() if value is not None}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(form: str) -> None:
    """Send the server's logs to standard error.

    Args:
        form: ``text`` or ``json``.
    """
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    names = ("vlkd", "uvicorn") if form == "json" else ("vlkd",)
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    access.setLevel(logging.INFO if form == "json" else logging.WARNING)


def log_request(
    method: str, route: str, status: int, ms: float, request_id: str, key: str | None, trace: str | None
) -> None:
    """Write the line of one request; as text only failures of the server are worth one."""
    level = logging.WARNING if status >= 500 else logging.INFO
    if not access.isEnabledFor(level):
        return
    fields = {"method": method, "route": route, "status": status, "ms": round(ms, 2), "request_id": request_id}
    words = "%s %s %d in %.1f ms (%s)"
    extra = {**fields, "key": key, "trace_id": trace}
    access.log(level, words, method, route, status, ms, request_id, extra=extra)
