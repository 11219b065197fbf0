"""Hugging Face inference tasks, a route each: ``InferenceClient(model="http://.../hf/TASK")`` posts to that address."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.responses import encode_vector, json_response
from vlkd_serving.routes.classify import rank_labels
from vlkd_serving.routes.common import (
    ERRORS,
    checked_inputs,
    embed_inputs,
    generation_options,
    get_engine,
    picture_of,
    require_width,
)
from vlkd_serving.routes.embedding_options import require_defaults
from vlkd_serving.schemas.huggingface import (
    FeatureExtractionRequest,
    GeneratedText,
    ImageToTextRequest,
    LabelScore,
    SimilarityRequest,
    VqaAnswer,
    VqaTaskRequest,
    ZeroShotRequest,
)
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(prefix="/hf", tags=["Hugging Face"])
TEMPLATE = "{}"
LOGIT_SCALE = 100.0
"""What CLIP multiplies cosines by."""


def _described(schema: Any, *, raw: bool = False) -> dict[str, Any]:
    return {"responses": ERRORS, "openapi_extra": body_schema(schema, multipart=False, raw=raw)}


@router.post("/image-to-text", response_model=list[GeneratedText], **_described(ImageToTextRequest, raw=True))
async def image_to_text(request: Request) -> Response:
    """Describe a picture."""
    engine = get_engine(request)
    payload = await read_payload(request, ImageToTextRequest, multipart=False, raw="inputs")
    fields = payload.fields
    options = generation_options(fields.parameters.num_beams, fields.parameters.max_new_tokens, engine.settings)
    picture = picture_of(payload.upload, fields.inputs, "inputs")
    text = await engine.write("caption", picture, None, options, engine.models.check_name(fields.model))
    return json_response([GeneratedText(generated_text=text.text)])


@router.post("/visual-question-answering", response_model=list[VqaAnswer], **_described(VqaTaskRequest))
async def visual_question_answering(request: Request) -> Response:
    """Answer a question about a picture."""
    engine = get_engine(request)
    fields = (await read_payload(request, VqaTaskRequest, multipart=False)).fields
    question = require_text(fields.question, "question", engine.settings.max_text_chars)
    picture = picture_of(None, fields.image or fields.inputs, "inputs")
    name = engine.models.check_name(fields.model)
    text = await engine.write("vqa", picture, question, (None, None), name)
    return json_response([VqaAnswer(score=text.score, answer=text.text)])


@router.post("/zero-shot-image-classification", response_model=list[LabelScore], **_described(ZeroShotRequest))
async def zero_shot_image_classification(request: Request) -> Response:
    """Choose among labels."""
    engine = get_engine(request)
    fields = (await read_payload(request, ZeroShotRequest, multipart=False)).fields
    picture = picture_of(None, fields.inputs, "inputs")
    labels, template = fields.parameters.candidate_labels, fields.parameters.hypothesis_template or TEMPLATE
    name = engine.models.check_name(fields.model)
    ranked = await rank_labels(engine, picture, labels, template, LOGIT_SCALE, name, "candidate_labels")
    return json_response([LabelScore(label=each.label, score=each.score) for each in ranked])


@router.post(
    "/feature-extraction", response_model=list[float] | list[list[float]], **_described(FeatureExtractionRequest)
)
async def feature_extraction(request: Request) -> Response:
    """Embed texts or pictures: one vector for a string, a list of them for a list."""
    engine = get_engine(request)
    fields = (await read_payload(request, FeatureExtractionRequest, multipart=False)).fields
    require_defaults(fields.normalize, fields.prompt_name, fields.truncation_direction)
    inputs = checked_inputs(fields.inputs, "inputs", engine.settings)
    encoded = await embed_inputs(engine, inputs, "inputs", engine.models.check_name(fields.model))
    require_width(fields.dimensions, len(encoded[0].embedding))
    vectors = [encode_vector(each.embedding, fields.encoding_format) for each in encoded]
    return json_response(vectors[0] if isinstance(fields.inputs, str) else vectors)


@router.post("/sentence-similarity", response_model=list[float], **_described(SimilarityRequest))
async def sentence_similarity(request: Request) -> Response:
    """Cosine similarity of one sentence to others."""
    engine = get_engine(request)
    fields = (await read_payload(request, SimilarityRequest, multipart=False)).fields
    together = [fields.inputs.source_sentence, *fields.inputs.sentences]
    inputs = checked_inputs(together, "inputs", engine.settings)
    encoded = await embed_inputs(engine, inputs, "inputs", engine.models.check_name(fields.model))
    source, *others = [each.embedding for each in encoded]
    return json_response(np.stack(others) @ source)
