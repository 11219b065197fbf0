"""From a conversation to one of the model's tasks: a caption, or an answer to a question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vlkd_serving.errors import TooLargeError, UnprocessableError
from vlkd_serving.schemas.openai import ChatMessage, ImagePart
from vlkd_serving.texts import require_text

__all__ = ["ChatTask", "chat_task"]

MAX_PICTURES = 1
_DESCRIBE = re.compile(
    r"(please\s+|can you\s+|could you\s+)?(describe|caption)\b.{0,60}"
    r"|what\s+(is|'s|does)\s+(in\s+)?th(is|e)\s+(picture|image|photo)(\s+show)?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class ChatTask:
    """What to write: ``caption``, or ``vqa`` with its question, about a picture in base64 or as a data URL."""

    name: str
    picture: str
    question: str | None


def chat_task(messages: Sequence[ChatMessage], max_text_chars: int) -> ChatTask:
    """Read a conversation: its last picture, and the text of the last message that a user sent.

    Raises:
        UnprocessableError: no picture, no user message, or a text that cannot be asked.
        TooLargeError: several pictures in one message.
    """
    asked = next((message for message in reversed(messages) if message.role == "user"), None)
    if asked is None:
        raise UnprocessableError("'messages' must hold a message of the role user.", "messages")
    pictures = [url for message in messages for url in _pictures(message)]
    if len(_pictures(asked)) > MAX_PICTURES:
        raise TooLargeError(f"A message may hold at most {MAX_PICTURES} picture.", "messages")
    if not pictures or not pictures[-1]:
        raise UnprocessableError("'messages' must hold a picture as image_url, a data URL.", "messages")
    text = _text(asked).strip()
    if not text or _DESCRIBE.fullmatch(text.rstrip(" .!?")):
        return ChatTask("caption", pictures[-1], None)
    return ChatTask("vqa", pictures[-1], require_text(text, "messages", max_text_chars))


def _pictures(message: ChatMessage) -> list[str]:
    if isinstance(message.content, str):
        return []
    return [part.image_url.url for part in message.content if isinstance(part, ImagePart)]


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if not isinstance(part, ImagePart))
