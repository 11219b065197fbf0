"""Prometheus metrics of one server, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters and histograms that ``/metrics`` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("vlkd_requests", "Requests answered.", ["route", "code"], registry=self.registry)
        self.rejected = Counter("vlkd_rejected", "Requests turned away.", ["reason"], registry=self.registry)
        self.request_seconds = Histogram(
            "vlkd_request_seconds",
            "Time from request to answer.",
            ["route"],
            buckets=_LATENCY_S,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "vlkd_queue_depth", "Items that wait for a model part.", ["part"], registry=self.registry
        )
        self.queue_seconds = Histogram(
            "vlkd_queue_seconds", "Time an item waited.", ["part"], buckets=_LATENCY_S, registry=self.registry
        )
        self.batch_size = Histogram(
            "vlkd_batch_size", "Items run together.", ["part"], buckets=_SIZES, registry=self.registry
        )
        self.infer_seconds = Histogram(
            "vlkd_infer_seconds", "Time of one batch.", ["part"], buckets=_LATENCY_S, registry=self.registry
        )
        self.picture_cache = Counter(
            "vlkd_picture_cache",
            "Pictures whose encoding was kept (hit), being made for another request (shared), or made (miss).",
            ["result"],
            registry=self.registry,
        )
        self.models_loaded = Gauge(
            "vlkd_model_loaded", "1 while a model is in memory.", ["model"], registry=self.registry
        )
        self.inflight = Gauge("vlkd_inflight", "Items admitted and not yet answered.", registry=self.registry)
        self.index_generation = Gauge(
            "vlkd_index_generation", "Generation of the index in service.", registry=self.registry
        )
        self.index_degraded = Gauge(
            "vlkd_index_degraded", "1 when the newest generation could not be verified.", registry=self.registry
        )
        self.compaction_failures = Counter(
            "vlkd_index_compaction_failures", "Compactions of the index that failed.", registry=self.registry
        )
