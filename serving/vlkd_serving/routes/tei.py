"""The routes of text-embeddings-inference: ``/embed`` and ``/info``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from vlkd_hub._version import __version__
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.responses import encode_vector, json_response
from vlkd_serving.routes.common import ERRORS, checked_inputs, embed_inputs, get_engine, require_width
from vlkd_serving.routes.embedding_options import require_defaults
from vlkd_serving.schemas.tei import EmbeddingKind, EmbedRequest, InfoResponse, ModelType

__all__ = ["router"]

router = APIRouter(tags=["text-embeddings-inference"])


@router.post(
    "/embed",
    response_model=list[list[float]],
    responses=ERRORS,
    openapi_extra=body_schema(EmbedRequest, multipart=False),
)
async def embed(request: Request) -> Response:
    """Embed texts or pictures: always a list of vectors."""
    engine = get_engine(request)
    fields = (await read_payload(request, EmbedRequest, multipart=False)).fields
    require_defaults(fields.normalize, fields.prompt_name, fields.truncation_direction)
    inputs = checked_inputs(fields.inputs, "inputs", engine.settings)
    encoded = await embed_inputs(engine, inputs, "inputs", None)
    require_width(fields.dimensions, len(encoded[0].embedding))
    return json_response([encode_vector(each.embedding, "float") for each in encoded])


@router.get("/info", responses={503: ERRORS[503]})
async def info(request: Request) -> InfoResponse:
    """The default model and the limits of this server."""
    engine = get_engine(request)
    settings = engine.settings
    async with engine.models.use(None) as model:
        return InfoResponse(
            model_id=model.name,
            model_sha=model.parts.fingerprint,
            model_dtype=model.parts.precision,
            model_type=ModelType(embedding=EmbeddingKind(pooling="in_graph")),
            max_concurrent_requests=settings.max_inflight,
            max_input_length=model.parts.max_tokens,
            max_batch_requests=settings.max_batch,
            max_client_batch_size=settings.max_inputs,
            auto_truncate=True,
            tokenization_workers=settings.pre_workers,
            version=__version__,
        )
