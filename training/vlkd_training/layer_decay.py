"""Lower layers learn more slowly: one learning-rate factor for each layer of an encoder."""

from __future__ import annotations

from torch import nn

from vlkd_hub.errors import RecipeError

from .layer_choice import layer_stack

__all__ = ["layer_multipliers"]

_AFTER = ("norm", "layernorm", "post_layernorm", "fc_norm", "pooler")
"""Parts of an encoder that come after its last layer."""


def layer_multipliers(model: nn.Module, encoder: str, decay: float) -> dict[str, float]:
    """Factors of the base learning rate by prefix of a parameter name.

    lr_l = base_lr * decay^(L + 1 - l), equation (42): layer 0 is everything before the first block, layer L + 1 the
    layer norm and the classifier on top. A closing norm or pooler of the encoder itself counts as layer L + 1, ours.

    Args:
        model: the classifier.
        encoder: name of its encoder, for example ``"encoder.backbone"`` or ``"bert"``.
        decay: 0.81 in the thesis, the square root of 0.65, for half of Data2Vec2's layers.

    Returns:
        For :class:`vlkd_training.trainer.DistillationArguments`' ``lr_multipliers``; the head is left out, its factor
        is 1.

    Raises:
        RecipeError: the encoder has no Transformer layers.

    Source: 004_3cb4412af0da3ec5.txt, section 3.1.1.3, equation (42) and Table 5.
    """
    body = model.get_submodule(encoder)
    found = layer_stack(body)
    if found is None:
        raise RecipeError(f"layer_decay needs Transformer layers, and {type(body).__name__} has none; set it to 1.")
    name, stack = found
    count = len(list(stack.children()))
    factors = {f"{encoder}.{name}.{at}.": decay ** (count - at) for at in range(count)}
    for parameter, _ in body.named_parameters():
        if not parameter.startswith(f"{name}."):
            factors[f"{encoder}.{parameter}"] = 1.0 if parameter.split(".")[0] in _AFTER else decay ** (count + 1)
    return factors
