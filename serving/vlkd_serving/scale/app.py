"""The Ray Serve application: deployments of the engine's parts, and the ingress in front of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlkd_hub._optional import require
from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import BundleError
from vlkd_serving.index.manifest import read_manifest as read_index_manifest
from vlkd_serving.index.spaces import check_space
from vlkd_serving.loading import require_matching
from vlkd_serving.scale.replicas import DecoderReplica, EncoderReplica, Ingress, ShardReplica
from vlkd_serving.scale.settings import INGRESS_CPUS, Replicas, ScaleSettings

__all__ = ["build_app", "build_application"]

_UPSCALE_DELAY_S = 5.0
_DOWNSCALE_DELAY_S = 120.0
_HEALTH_PERIOD_S = 5.0


def build_app(args: dict[str, Any]) -> Any:
    """What ``serve run vlkd_serving.scale:build_app KEY=VALUE ...`` and the ``import_path`` of a config file name.

    Args:
        args: see :meth:`ScaleSettings.from_args`.

    Raises:
        VlkdError: as :func:`build_application`.
    """
    return build_application(ScaleSettings.from_args(args))


def build_application(settings: ScaleSettings) -> Any:
    """The application, for ``ray.serve.run``. Bundle and shards are looked at here, so that mistakes are told at once.

    Its deployments: ``ingress``, ``encoder``, ``decoder`` (where the bundle can write), ``index-0``, ``index-1``, ...

    Raises:
        BundleError: not a bundle, or not an index.
        SpaceError: a shard of another model.
        InvalidInputError: words are to be matched, and the bundle cannot.
        MissingDependencyError: ray is not installed.
    """
    serve = require("ray.serve", "scale")
    manifest = read_manifest(Path(settings.model))
    if settings.match_words:
        require_matching([Path(settings.model)])
    for shard in map(Path, settings.shards):
        found = read_index_manifest(shard)
        if found is None:
            raise BundleError(f"There is no index in {shard}. Make shards with `vlkd index split INDEX PART1 PART2`.")
        check_space(shard, found, manifest.fingerprint)
    limits, batch, texts = settings.server, settings.server.max_batch, settings.server.max_texts

    def deployment(kind: Any, name: str, replicas: Replicas, busy: int, holds: int, cpus: float) -> Any:
        return serve.deployment(
            kind,
            name=name,
            max_ongoing_requests=holds,
            graceful_shutdown_timeout_s=limits.drain_s,
            health_check_period_s=_HEALTH_PERIOD_S,
            ray_actor_options={"num_cpus": cpus},
            **_count(replicas, busy),
        )

    model_cpus, search_cpus = float(settings.threads), settings.shard_threads
    encoder = deployment(EncoderReplica, "encoder", settings.encoders, batch, 4 * batch, model_cpus).bind(settings)
    decoder = None
    if manifest.generation is not None:
        made = deployment(DecoderReplica, "decoder", settings.decoders, texts, 2 * texts, model_cpus)
        decoder = made.bind(settings, encoder)
    shards = [
        deployment(
            ShardReplica, f"index-{n}", settings.searchers, 2 * limits.pre_workers, limits.max_queue, search_cpus
        ).bind(settings, str(shard), manifest.fingerprint)
        for n, shard in enumerate(settings.shards)
    ]
    # More than the engine admits, so that it is the engine who turns away, in its own words.
    front = deployment(
        serve.ingress()(Ingress),
        "ingress",
        settings.ingresses,
        limits.max_inflight,
        4 * limits.max_inflight,
        INGRESS_CPUS,
    )
    return front.bind(settings, encoder, decoder, shards)


def _count(replicas: Replicas, busy: int) -> dict[str, Any]:
    """Options of a deployment: a number, or bounds and the calls that keep one replica busy."""
    if replicas.least == replicas.most:
        return {"num_replicas": replicas.least}
    return {
        "autoscaling_config": {
            "min_replicas": replicas.least,
            "max_replicas": replicas.most,
            "target_ongoing_requests": busy,
            "upscale_delay_s": _UPSCALE_DELAY_S,
            "downscale_delay_s": _DOWNSCALE_DELAY_S,
        }
    }
