"""Run the application on a connected Ray cluster until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from vlkd_serving.scale.app import build_application
from vlkd_serving.scale.settings import ScaleSettings

__all__ = ["APPLICATION", "serve_until"]

APPLICATION = "vlkd"
_KEEP_ALIVE_S = 90


def serve_until(
    ray: Any, settings: ScaleSettings, stop: threading.Event, ready: Callable[[], None], *, alone: bool
) -> None:
    """Deploy, call ``ready``, wait for ``stop``, and take the application away: its replicas finish what they have.

    Args:
        ray: the module, connected; see :func:`vlkd_serving.scale.cluster.ray_cluster`.
        settings: what to deploy, and where to listen.
        stop: set by a signal.
        ready: called once requests are answered.
        alone: nobody else serves on this cluster, so that Serve itself is stopped too.

    Raises:
        VlkdError: as :func:`build_application`.
    """
    application = build_application(settings)
    serve = ray.serve
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="EveryNode",
        http_options={
            "host": settings.server.host,
            "port": settings.server.port,
            "keep_alive_timeout_s": _KEEP_ALIVE_S,
        },
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    try:
        serve.run(application, name=APPLICATION, route_prefix="/")
        ready()
        stop.wait()
    finally:
        serve.delete(APPLICATION)
        if alone:
            serve.shutdown()
