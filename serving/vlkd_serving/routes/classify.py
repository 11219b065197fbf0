"""``POST /v1/classify``: choose among labels that the model was never trained on. ``POST /v1/entail`` beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Request, Response

from vlkd_serving.engine import Engine
from vlkd_serving.errors import TooLargeError, UnprocessableError
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.pre import Picture
from vlkd_serving.responses import json_response
from vlkd_serving.routes.common import ERRORS, get_engine, picture_of
from vlkd_serving.schemas.errors import ErrorResponse
from vlkd_serving.schemas.native import ClassifyRequest, ClassifyResponse, EntailRequest, Label
from vlkd_serving.texts import require_text

__all__ = ["rank_labels", "router"]

router = APIRouter(tags=["native"])
PLACE = "{}"
_TEMPLATES = {"labels": "template", "candidate_labels": "hypothesis_template"}
"""Field of the labels -> field of their template, for errors."""


@router.post(
    "/v1/classify",
    response_model=ClassifyResponse,
    responses=ERRORS,
    openapi_extra=body_schema(ClassifyRequest, multipart=False),
)
async def classify(request: Request) -> Response:
    """Say which of some labels fits a picture best."""
    begin = time.perf_counter()
    engine = get_engine(request)
    fields = (await read_payload(request, ClassifyRequest, multipart=False)).fields
    name = engine.models.check_name(fields.model)
    picture = picture_of(None, fields.image)
    labels = await rank_labels(engine, picture, fields.labels, fields.template, fields.logit_scale, name, "labels")
    latency_ms = round((time.perf_counter() - begin) * 1000, 3)
    return json_response(ClassifyResponse(labels=labels, model=name, latency_ms=latency_ms))


@router.post(
    "/v1/entail",
    responses={**ERRORS, 422: {"model": ErrorResponse, "description": "The model has no such task."}},
    openapi_extra=body_schema(EntailRequest, multipart=False),
)
async def entail(request: Request) -> Response:
    """Say whether a picture shows what a sentence says; only for models that learned this task."""
    engine = get_engine(request)
    fields = (await read_payload(request, EntailRequest, multipart=False)).fields
    name = engine.models.check_name(fields.model)
    hypothesis = require_text(fields.hypothesis, "hypothesis", engine.settings.max_text_chars)
    text = await engine.write("entail", picture_of(None, fields.image), hypothesis, (None, None), name)
    return json_response({"label": text.text, "score": text.score, "model": name})


async def rank_labels(
    engine: Engine,
    picture: Picture,
    labels: Sequence[str],
    template: str,
    logit_scale: float,
    model: str | None,
    param: str,
) -> list[Label]:
    """Labels by their share of the softmax over scaled cosines, best first.

    Raises:
        ServingError: too many labels, an empty one, or a template that is too long or has not exactly one place.
    """
    limit, longest = engine.settings.max_inputs, engine.settings.max_text_chars
    if len(labels) > limit:
        raise TooLargeError(f"'{param}' may hold at most {limit} items, got {len(labels)}.", param)
    _require_template(template, _TEMPLATES[param], longest)
    prompts = [template.replace(PLACE, require_text(each, param, longest)) for each in labels]
    for prompt in prompts:
        require_text(prompt, _TEMPLATES[param], longest)
    similarities = await engine.classify(picture, prompts, model)
    logits = logit_scale * similarities.astype(np.float64)
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    return [Label(label=labels[i], score=float(shares[i]), similarity=float(similarities[i])) for i in order]


def _require_template(template: str, param: str, longest: int) -> None:
    """Raise before a label is put in: a long template with many places would grow without bound."""
    if template.count(PLACE) != 1:
        raise UnprocessableError(f"'{param}' must hold {PLACE} exactly once, where the label goes.", param)
    require_text(template, param, longest)
