"""``POST /v1/chat/completions``: a picture and a question, or a picture alone, in the OpenAI shape."""

from __future__ import annotations

import time
import uuid

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from vlkd_serving.chat_stream import chat_events, start_stream
from vlkd_serving.chat_task import chat_task
from vlkd_serving.handlers import error_response
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.questions import GenerationOptions, Text
from vlkd_serving.responses import json_response
from vlkd_serving.routes.common import ERRORS, generation_options, get_engine
from vlkd_serving.schemas.openai import ChatRequest, ChatResponse
from vlkd_serving.settings import ServerSettings

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


@router.post(
    "/v1/chat/completions",
    response_model=ChatResponse,
    responses={
        **ERRORS,
        200: {"description": "The answer; with `stream`, its pieces.", "content": {"text/event-stream": {}}},
    },
    openapi_extra=body_schema(ChatRequest, multipart=False),
)
async def chat(request: Request) -> Response:
    """Answer a question about the last picture of a conversation, or caption it."""
    engine = get_engine(request)
    fields = (await read_payload(request, ChatRequest, multipart=False)).fields
    name = engine.models.check_name(fields.model)
    task = chat_task(fields.messages, engine.settings.max_text_chars)
    options = _options(fields, engine.settings)
    reply_id, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
    if not fields.stream:
        text = await engine.write(task.name, task.picture, task.question, options, name)
        return json_response(_reply(text, reply_id, created, name, _reason(text, fields)))
    stream = await start_stream(engine, task, options, name)
    usage = fields.stream_options is not None and fields.stream_options.include_usage
    head = {"id": reply_id, "object": "chat.completion.chunk", "created": created, "model": name}
    events = chat_events(stream, head, lambda text: _reason(text, fields), usage, lambda error: _failed(request, error))
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _failed(request: Request, error: Exception) -> bytes:
    """The body of an error that comes after the status line; metrics and log count it by its own status."""
    answer = error_response(error, request.state.request_id)
    request.state.status = answer.status_code
    return bytes(answer.body)


def _options(fields: ChatRequest, settings: ServerSettings) -> GenerationOptions:
    name = "max_tokens" if fields.max_tokens is not None else "max_completion_tokens"
    longest = fields.max_tokens if fields.max_tokens is not None else fields.max_completion_tokens
    # Clients often ask for far more than any caption: OpenAI's own limit is a cap, so a large one is met, not refused.
    capped = min(longest, settings.max_new_tokens) if longest is not None else None
    return generation_options(None, capped, settings, name)


def _reason(text: Text, fields: ChatRequest) -> str:
    longest = fields.max_tokens if fields.max_tokens is not None else fields.max_completion_tokens
    return "length" if longest is not None and text.completion_tokens >= longest else "stop"


def _reply(text: Text, reply_id: str, created: int, model: str, reason: str) -> dict[str, object]:
    message = {"role": "assistant", "content": text.text}
    return {
        "id": reply_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": text.prompt_tokens,
            "completion_tokens": text.completion_tokens,
            "total_tokens": text.prompt_tokens + text.completion_tokens,
        },
    }
