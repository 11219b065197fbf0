"""A plain FastAPI + torch server, as one writes it in an afternoon: what `vlkd bench serve --against` compares with.

python benchmarks/plain_server.py STUDENT --port 8100 --threads 2 &
vlkd bench serve BUNDLE --against plain=http://127.0.0.1:8100
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

from vlkd_hub.inference import TorchStudent


def create_plain_app(student: Any) -> FastAPI:
    """Routes that run the model for each request as it comes, on FastAPI's threads.

    Args:
        student: has ``embed_images`` and ``caption``.
    """
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/embeddings")
    def embed(body: dict[str, Any]) -> dict[str, Any]:
        content = base64.b64decode(body["input"].split(",", 1)[1])
        vector = student.embed_images([Image.open(io.BytesIO(content)).convert("RGB")])[0]
        return {"data": [{"embedding": [float(value) for value in vector]}]}

    @app.post("/v1/caption")
    def caption(image: UploadFile) -> dict[str, str]:
        picture = Image.open(image.file).convert("RGB")
        return {"caption": student.caption([picture])[0]}

    return app


def main(
    student: Annotated[Path, typer.Argument(help="The student in torch.")],
    port: Annotated[int, typer.Option("--port")] = 8100,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 2,
) -> None:
    """Serve a student in torch."""
    torch.set_num_threads(threads)
    # Without its picture cache, as the other server: the bench sends the same pictures once a round.
    loaded = TorchStudent.from_pretrained(student, picture_cache_bytes=0)
    uvicorn.run(create_plain_app(loaded), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    typer.run(main)
