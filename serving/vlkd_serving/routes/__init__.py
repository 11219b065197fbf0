"""The routes, one file a dialect or task. A route knows words, never tensors."""

from __future__ import annotations

from vlkd_serving.routes import caption, embeddings, health, pictures, search, vqa

__all__ = ["ROUTERS"]

ROUTERS = (search.router, caption.router, vqa.router, embeddings.router, pictures.router, health.router)
