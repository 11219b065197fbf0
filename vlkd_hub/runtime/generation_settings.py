"""Settings of one generation, gathered from the manifest, ``generation_config.json``, the task and the caller."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from vlkd_hub.errors import BundleError, InvalidInputError

__all__ = ["GenerationSettings", "unsupported_options"]

# What changes the text and is not done here, with the value at which it does nothing (None always does nothing).
NOT_DONE: dict[str, tuple[Any, ...]] = {
    "assistant_confidence_threshold": (0.4,),
    "bad_words_ids": (),
    "begin_suppress_tokens": (),
    "constraints": (),
    "diversity_penalty": (0, 0.0),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1, 1.0),
    "epsilon_cutoff": (0, 0.0),
    "eta_cutoff": (0, 0.0),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "guidance_scale": (1, 1.0),
    "min_p": (0, 0.0),
    "num_beam_groups": (1,),
    "penalty_alpha": (0, 0.0),
    "renormalize_logits": (False,),
    "repetition_penalty": (1, 1.0),
    "sequence_bias": (),
    "stop_strings": (),
    "suppress_tokens": (),
    "top_h": (),
    "typical_p": (1, 1.0),
    "watermarking_config": (),
}


def unsupported_options(generation_config: dict[str, Any]) -> list[str]:
    """Names of the options in ``generation_config.json`` that would change the text and are not done here."""
    return sorted(
        name
        for name, neutral in NOT_DONE.items()
        if generation_config.get(name) is not None and generation_config[name] not in neutral
    )


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How to choose tokens; the names and meanings are those of transformers' ``GenerationConfig``."""

    decoder_start_token_id: int
    eos_token_id: int
    pad_token_id: int
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    max_new_tokens: int = 20
    """Tokens after the start token."""
    min_length: int = 0
    """Tokens with the start token before the end may come."""
    min_new_tokens: int = 0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    """Exponent of the length that a beam's log-probability is divided by."""
    early_stopping: bool | str = False
    """True, False or ``"never"``."""
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    """0 keeps all."""
    top_p: float = 1.0
    seed: int | None = None
    """Of the random choices; None takes a new one each time."""

    def __post_init__(self) -> None:
        self._at_least("max_new_tokens", 1)
        self._at_least("num_beams", 1)
        for name in ("min_length", "min_new_tokens", "no_repeat_ngram_size", "top_k"):
            self._at_least(name, 0)
        if not self.temperature > 0:
            raise InvalidInputError(
                f"temperature must be above 0, got {self.temperature}. For no chance: do_sample=False."
            )
        if not 0 < self.top_p <= 1:
            raise InvalidInputError(f"top_p must lie in (0, 1], got {self.top_p}.")
        if self.early_stopping not in (True, False, "never"):
            raise InvalidInputError(f"early_stopping must be true, false or 'never', got {self.early_stopping!r}.")
        if self.do_sample and self.num_beams > 1:
            raise InvalidInputError(
                f"do_sample with num_beams={self.num_beams} is not done here; sample with num_beams=1."
            )

    def _at_least(self, name: str, lowest: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise InvalidInputError(f"{name} must be a whole number of {lowest} or more, got {value!r}.")

    @classmethod
    def merge(cls, *sources: dict[str, Any]) -> GenerationSettings:
        """Later sources win; None and names that are not settings are passed over.

        Raises:
            InvalidInputError: a value is out of range.
            BundleError: a token that every generation needs is in no source.
        """
        known = {field.name for field in fields(cls)}
        merged = {
            name: value for source in sources for name, value in source.items() if name in known and value is not None
        }
        absent = {"decoder_start_token_id", "eos_token_id", "pad_token_id"} - merged.keys()
        if absent:
            raise BundleError(f"The bundle does not say {', '.join(sorted(absent))}. Export the student again.")
        return cls(**merged)
