"""Join a Ray cluster, or start a quiet one on this machine: nothing is reported home, no dashboard, small stores."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vlkd_hub._optional import require

__all__ = ["ray_cluster"]

_STORE_BYTES = 256 << 20
"""Shared memory for what travels between replicas of one machine: pictures and their encodings."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # A machine with other work may need longer than five seconds to start the HTTP proxy, which is killed then.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}


@contextmanager
def ray_cluster(address: str | None = None, cpus: float | None = None) -> Iterator[Any]:
    """The module ``ray``, connected.

    Args:
        address: of a cluster to join, or ``auto``; None starts one on this machine, which ends with the body.
        cpus: processors that the started one counts, if more than there are; they are shared then.

    Raises:
        MissingDependencyError: ray is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = require("ray", "scale")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address is None:
        there = len(os.sched_getaffinity(0))
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES, "num_gpus": 0}
        options |= {"num_cpus": max(there, int(-(-(cpus or 0) // 1)))}
    else:
        options |= {"address": address}
    ray.init(**options)
    try:
        yield ray
    finally:
        ray.shutdown()
