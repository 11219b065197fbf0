"""Options of embedding dialects that this server meets in one way only: another value is refused, not passed over."""

from __future__ import annotations

from vlkd_serving.errors import UnprocessableError

__all__ = ["require_defaults"]


def require_defaults(normalize: bool | None, prompt_name: str | None, truncation_direction: str | None) -> None:
    """Check the options that ``/embed`` and feature extraction share.

    Raises:
        UnprocessableError: vectors that are not normalised, a prompt, or cutting on the left is asked for.
    """
    if normalize is False:
        raise UnprocessableError("'normalize' must be true: the model's embeddings have length 1.", "normalize")
    if prompt_name is not None:
        raise UnprocessableError("'prompt_name' must be left out: this model has no prompts.", "prompt_name")
    if truncation_direction is not None and truncation_direction.lower() != "right":
        raise UnprocessableError("'truncation_direction' must be right.", "truncation_direction")
