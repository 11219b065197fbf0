"""The KServe v2 protocol: health, metadata and inference, in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from vlkd_hub._version import __version__
from vlkd_serving.engine import Engine
from vlkd_serving.errors import ServingError, TooLargeError, UnavailableError, UnprocessableError
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.responses import json_response
from vlkd_serving.routes.common import ERRORS, get_engine
from vlkd_serving.schemas.kserve import (
    InferRequest,
    InferResponse,
    ModelMetadata,
    ServerMetadata,
    Tensor,
    TensorMetadata,
)
from vlkd_serving.served_model import gather_all
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(prefix="/v2", tags=["KServe v2"])
INPUTS = ("image", "text", "question")
OUTPUTS = {"embedding": ({"image"}, {"text"}), "caption": ({"image"},), "answer": ({"image", "question"},)}
"""Output -> the sets of inputs that it is made of."""
VERSION = "1"


@router.get("")
async def server_metadata() -> ServerMetadata:
    """Name and version of the server."""
    return ServerMetadata(name="vlkd", version=__version__, extensions=[])


@router.get("/health/live", responses={503: ERRORS[503]})
async def live(request: Request) -> dict[str, bool]:
    """Whether the process works."""
    if not get_engine(request).alive:
        raise UnavailableError("A worker has stopped.")
    return {"live": True}


@router.get("/health/ready", responses={503: ERRORS[503]})
async def ready(request: Request) -> dict[str, bool]:
    """Whether requests are taken; a request runs through the model."""
    await _require_ready(get_engine(request))
    return {"ready": True}


@router.get("/models/{model}", responses={404: ERRORS[404], 503: ERRORS[503]})
async def model_metadata(request: Request, model: str) -> ModelMetadata:
    """Tensors of a model."""
    async with get_engine(request).models.use(model) as served:
        width = served.parts.dim
        outputs = [TensorMetadata(name="embedding", datatype="FP32", shape=[-1, width])]
        for name, task in (("caption", "caption"), ("answer", "vqa")):
            if task in served.parts.tasks:
                outputs.append(TensorMetadata(name=name, datatype="BYTES", shape=[-1]))
    inputs = [TensorMetadata(name=name, datatype="BYTES", shape=[-1]) for name in INPUTS]
    return ModelMetadata(name=model, versions=[VERSION], platform="onnxruntime_onnx", inputs=inputs, outputs=outputs)


@router.get("/models/{model}/ready", responses={404: ERRORS[404], 503: ERRORS[503]})
async def model_ready(request: Request, model: str) -> dict[str, Any]:
    """Whether a model can be asked."""
    engine = get_engine(request)
    name = engine.models.check_name(model)
    await _require_ready(engine)
    return {"name": name, "ready": True}


@router.post(
    "/models/{model}/infer",
    response_model=InferResponse,
    responses=ERRORS,
    openapi_extra=body_schema(InferRequest, multipart=False),
)
async def infer(request: Request, model: str) -> Response:
    """Embed, caption or answer for each of N inputs."""
    engine = get_engine(request)
    name = engine.models.check_name(model)
    fields = (await read_payload(request, InferRequest, multipart=False)).fields
    inputs = _strings(fields.inputs, engine.settings.max_inputs)
    wanted = fields.outputs[0].name if fields.outputs else ("answer" if "question" in inputs else "embedding")
    if wanted not in OUTPUTS:
        raise UnprocessableError(f"'outputs' may name {', '.join(OUTPUTS)}.", "outputs")
    if set(inputs) not in OUTPUTS[wanted]:
        needed = " or ".join(" with ".join(sorted(each)) for each in OUTPUTS[wanted])
        raise UnprocessableError(f"The output {wanted} needs the inputs: {needed}.", "inputs")
    output = await _run(engine, wanted, inputs, name)
    body = {"model_name": name, "model_version": VERSION, "id": fields.id, "outputs": [output]}
    return json_response(body)


async def _run(engine: Engine, wanted: str, inputs: dict[str, list[str]], model: str) -> dict[str, Any]:
    limit = engine.settings.max_text_chars
    for name in ("text", "question"):
        for value in inputs.get(name, []):
            require_text(value, name, limit)
    if wanted == "embedding":
        encoded: Any = (
            await engine.embed_pictures(inputs["image"], "image", model)
            if "image" in inputs
            else await engine.embed_texts(inputs["text"], model)
        )
        vectors = np.stack([each.embedding for each in encoded]).astype(np.float32)
        return {"name": wanted, "datatype": "FP32", "shape": list(vectors.shape), "data": vectors.reshape(-1)}
    pictures = inputs["image"]
    questions: Sequence[str | None] = inputs.get("question") or [None] * len(pictures)
    task = "vqa" if wanted == "answer" else "caption"
    pairs = zip(pictures, questions, strict=True)
    with engine.admission.admit(len(pictures)):
        texts = await gather_all(*(engine.write(task, image, question, model=model) for image, question in pairs))
    return {"name": wanted, "datatype": "BYTES", "shape": [len(texts)], "data": [text.text for text in texts]}


def _strings(tensors: list[Tensor], most: int) -> dict[str, list[str]]:
    """The inputs by name, each a flat list of strings of equal length.

    Raises:
        UnprocessableError: another name, type or shape.
        TooLargeError: too many items.
    """
    found: dict[str, list[str]] = {}
    for tensor in tensors:
        if tensor.name not in INPUTS or tensor.name in found:
            raise UnprocessableError(f"'inputs' may name each of {', '.join(INPUTS)} once.", "inputs")
        if tensor.datatype != "BYTES":
            raise UnprocessableError("The datatype of every input must be BYTES: strings in JSON.", "inputs")
        values = [value for row in tensor.data for value in (row if isinstance(row, list) else [row])]
        if not values or not all(isinstance(value, str) for value in values):
            raise UnprocessableError("'data' must hold strings, at least one.", "inputs")
        if len(values) > most:
            raise TooLargeError(f"An input may hold at most {most} items, got {len(values)}.", "inputs")
        if tensor.shape not in ([len(values)], [len(values), 1]):
            raise UnprocessableError(f"'shape' must be [{len(values)}] or [{len(values)}, 1].", "inputs")
        found[tensor.name] = values
    if len({len(values) for values in found.values()}) > 1:
        raise UnprocessableError("All inputs must hold the same number of items.", "inputs")
    return found


async def _require_ready(engine: Engine) -> None:
    if engine.state != "ready":
        raise UnavailableError(f"The server is {engine.state}.")
    try:
        await engine.canary()
    except ServingError:
        raise UnavailableError("The model does not answer in time.") from None
