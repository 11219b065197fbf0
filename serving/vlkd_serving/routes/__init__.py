"""The routes, one file a dialect or task. A route knows words, never tensors."""

from __future__ import annotations

from vlkd_serving.routes import (
    caption,
    chat,
    classify,
    docs,
    embeddings,
    health,
    huggingface,
    immich,
    index_items,
    kserve,
    match,
    models,
    pictures,
    search,
    tei,
    vqa,
)

__all__ = ["ROUTERS"]

ROUTERS = tuple(
    module.router
    for module in (
        search,
        embeddings,
        caption,
        vqa,
        classify,
        match,
        chat,
        pictures,
        index_items,
        models,
        huggingface,
        kserve,
        tei,
        immich,
        health,
        docs,
    )
)
