"""A token bucket for each key (or address): so many requests a second, and a burst now and then."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from vlkd_serving.errors import RateLimitedError

__all__ = ["RateLimiter"]

MOST_KNOWN = 10_000
"""Askers remembered; the one not seen for longest is forgotten, with a full bucket, so memory is bounded."""


class RateLimiter:
    """Used from the event loop only, so it needs no lock.

    Args:
        per_second: requests a second in the long run; 0 lets everything through.
        burst: requests at once after a pause.
        clock: seconds.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> None:
        """Count one request.

        Raises:
            RateLimitedError: too many; it says after how many seconds there is room again.
        """
        if not self._per_second:
            return
        now = self._clock()
        tokens, since = self._buckets.pop(who, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._per_second)
        allowed = tokens >= 1
        self._buckets[who] = (tokens - allowed, now)
        if len(self._buckets) > MOST_KNOWN:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = math.ceil((1 - tokens) / self._per_second)
            raise RateLimitedError(f"At most {self._per_second:g} requests a second; retry later.", wait_s)
