"""Beyond one machine: the engine's parts as Ray Serve deployments, and bulk embedding on Ray Data (extra ``scale``).

``serve run vlkd_serving.scale:build_app model=BUNDLE shards=INDEX`` or ``vlkd scale serve`` starts it; ray is imported
only then.
"""

from __future__ import annotations

from vlkd_serving.scale.app import build_app

__all__ = ["build_app"]
