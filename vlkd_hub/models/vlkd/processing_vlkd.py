"""Pictures, prompts and answers of the VLKD student."""

from __future__ import annotations

import copy
from typing import Any

from transformers import AutoImageProcessor, GenerationConfig, ProcessorMixin

from .compatibility import image_backend

__all__ = ["CHAT_TEMPLATE", "DEFAULT_TASKS", "VlkdProcessor"]

DEFAULT_TASKS: dict[str, dict[str, Any]] = {
    "caption": {
        "prompt": "A picture of {masks}.",
        "num_masks": 6,
        "max_new_tokens": 32,
        "num_beams": 1,
        "length_penalty": 1.0,
    },
    "vqa": {
        "prompt": "{question} Answer: {masks}.",
        "num_masks": 2,
        "max_new_tokens": 8,
        "num_beams": 1,
        "length_penalty": 1.0,
    },
}
"""Prompts of sections 4.3.1 and 4.3.2; the number of masks m is Table 11's (zero-shot VQA uses 1)."""

CHAT_TEMPLATE = (
    "{%- set ns = namespace(text='') -%}"
    "{%- for message in messages if message['role'] == 'user' -%}"
    "{%- set ns.text = '' -%}"
    "{%- if message['content'] is string -%}{%- set ns.text = message['content'] -%}"
    "{%- else -%}{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{%- set ns.text = (ns.text ~ ' ' ~ part['text']) | trim -%}{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if ns.text -%}{{ vqa_prompt | replace('{question}', ns.text) }}{%- else -%}{{ caption_prompt }}{%- endif -%}"
)
"""The last user message is the question; a message that holds only a picture asks for a caption."""


class VlkdProcessor(ProcessorMixin):
    """Image processor (Pillow backend), tokenizer, and the prompts of each task.

    Args:
        image_processor: the teacher's.
        tokenizer: the text encoder's; it needs a mask token, since prompts are text to be filled in.
        tasks: prompt, number of masks and decoding defaults of each task, see :data:`DEFAULT_TASKS`.
        chat_template: Jinja template; the default one asks the last user message as a question.

    Raises:
        ValueError: the tokenizer has no mask token.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        tasks: dict[str, dict[str, Any]] | None = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        if tokenizer is not None and tokenizer.mask_token is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no mask token, and VLKD prompts are text with masks to fill. "
                "Use a BERT- or BART-like tokenizer, or set tokenizer.mask_token."
            )
        self.tasks = copy.deepcopy(tasks or DEFAULT_TASKS)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE, **kwargs)
        if tokenizer is not None:
            tokenizer.model_input_names = ["input_ids", "attention_mask"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> VlkdProcessor:
        """Load as every processor does, with Pillow's resize unless ``backend`` names another.

        transformers picks the torchvision image processor wherever torchvision is installed, whatever class was
        saved; its resize differs from the one that the weights were trained with.
        """
        backend = kwargs.pop("backend", "pil")
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        kwargs.pop("config", None)
        processor.image_processor = AutoImageProcessor.from_pretrained(
            pretrained_model_name_or_path, **image_backend(backend), **kwargs
        )
        return processor

    def _masks(self, task: str) -> str:
        mask = self.tokenizer.mask_token
        return " ".join([mask] * int(self.tasks[task]["num_masks"]))

    def build_prompt(self, task: str, question: str | None = None) -> str:
        """Return the text that the encoder reads for a task.

        Args:
            task: a key of ``tasks``: ``"caption"`` or ``"vqa"``.
            question: needed for ``"vqa"``.

        Raises:
            ValueError: unknown task, or a question is missing or empty.
        """
        if task not in self.tasks:
            raise ValueError(f"Unknown task {task!r}; this processor knows {sorted(self.tasks)}.")
        template = self.tasks[task]["prompt"]
        if "{question}" in template:
            if not (question or "").strip():
                raise ValueError(f"Task {task!r} needs a question, got {question!r}.")
            template = template.replace("{question}", question.strip())
        return template.replace("{masks}", self._masks(task))

    def generation_kwargs(self, task: str) -> dict[str, Any]:
        """Return the decoding defaults of a task, ready for ``generate``.

        Only what a ``GenerationConfig`` has comes through: ``generate`` would also take ``custom_generate`` with
        ``trust_remote_code``, and so run Python that a config names.
        """
        known = vars(GenerationConfig())
        return {key: value for key, value in self.tasks[task].items() if key in known}

    def apply_chat_template(self, conversation: Any, chat_template: str | None = None, **kwargs: Any) -> Any:
        """Turn a conversation into a prompt (and tensors), with the task prompts in reach of the template."""
        kwargs.setdefault("caption_prompt", self.build_prompt("caption"))
        kwargs.setdefault("vqa_prompt", self.tasks["vqa"]["prompt"].replace("{masks}", self._masks("vqa")))
        return super().apply_chat_template(conversation, chat_template=chat_template, **kwargs)

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """Decode generated ids, shape ``(batch, length)``, to clean text."""
        kwargs.pop("clean_up_tokenization_spaces", None)
        texts = self.tokenizer.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)
        return [text.strip() for text in texts]
