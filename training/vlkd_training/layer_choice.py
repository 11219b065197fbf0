"""A shallow student out of a deep teacher: some of its layers, everything else copied."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from vlkd_hub.errors import RecipeError
from vlkd_hub.models.unimodal import UnimodalImageConfig

__all__ = ["choose_layers", "cut_layers", "kept_weights", "layer_stack"]

LayerChoice = str | Sequence[int]


def choose_layers(choice: LayerChoice, count: int) -> list[int]:
    """Say which of a teacher's layers a student keeps.

    Args:
        choice: ``"first_half"`` (layers 1 to L/2, what the thesis takes), ``"every_second"`` (1, 3, 5, ..., as
            DistilBERT does), or the numbers themselves, counted from 1.
        count: the teacher's layers L.

    Returns:
        Positions counted from 0, rising.

    Raises:
        RecipeError: no such choice, or numbers that are not layers in rising order.

    Source: 004_3cb4412af0da3ec5.txt, section 3.1.1.1.
    """
    if choice == "first_half":
        chosen = list(range(count // 2))
    elif choice == "every_second":
        chosen = list(range(0, count - count % 2, 2))
    elif isinstance(choice, str):
        raise RecipeError(f"layers must be 'first_half', 'every_second' or a list of numbers, got {choice!r}.")
    else:
        chosen = [number - 1 for number in choice]
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= count:
        raise RecipeError(
            f"layers: {choice!r} cannot be kept of {count} layers; give numbers from 1 to {count}, each once, rising."
        )
    return chosen


def layer_stack(model: nn.Module, count: int | None = None) -> tuple[str, nn.Module] | None:
    """Find the Transformer layers of an encoder.

    Args:
        model: of transformers or timm.
        count: how many there are; read from the config where it is not given.

    Returns:
        Name and module of the list of layers; ``None`` where the model has none (a convolutional network).
    """
    config = getattr(model, "config", None)
    count = count if count is not None else getattr(config, "num_hidden_layers", None)
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        if (isinstance(module, nn.ModuleList) and len(module) == count) or _is_timm_vit(model, name):
            return name, module
    return None


def cut_layers(teacher: PreTrainedModel, choice: LayerChoice) -> PreTrainedModel:
    """Make a student of some of the teacher's layers; embeddings, class token, positions and norms are copied.

    The student is built from a config of its own, so what ``save_pretrained`` writes loads again.

    Args:
        teacher: an encoder of transformers, or :class:`UnimodalImageModel` around a ViT of timm; not changed.
        choice: see :func:`choose_layers`.

    Raises:
        RecipeError: the teacher has no layers that can be cut, or the choice does not fit them.
    """
    found = layer_stack(teacher)
    if found is None:
        raise RecipeError(f"{type(teacher).__name__} has no list of Transformer layers that a student could take.")
    name, stack = found
    chosen = choose_layers(choice, len(list(stack.children())))
    config = _config_of(teacher, len(chosen))
    options = {}
    if "add_pooling_layer" in inspect.signature(type(teacher)).parameters:
        options["add_pooling_layer"] = getattr(teacher, "pooler", None) is not None
    student = type(teacher)(config, **options).to(dtype=teacher.dtype)
    student.load_state_dict(kept_weights(teacher, name, chosen))
    return student


def kept_weights(teacher: nn.Module, stack: str, chosen: Sequence[int]) -> dict[str, Any]:
    """The teacher's weights without the layers that go, the others renumbered.

    Args:
        teacher: not changed.
        stack: name of its list of layers.
        chosen: positions that stay, counted from 0.
    """
    place = {str(old): str(new) for new, old in enumerate(chosen)}
    weights = {}
    for key, value in teacher.state_dict().items():
        if key.startswith(f"{stack}."):
            number, _, rest = key.removeprefix(f"{stack}.").partition(".")
            if number not in place:
                continue
            key = f"{stack}.{place[number]}.{rest}"
        weights[key] = value
    return weights


def _config_of(teacher: PreTrainedModel, layers: int) -> Any:
    """The teacher's config with fewer layers; stages of a backbone, which are named by number, are left to it."""
    if isinstance(teacher.config, UnimodalImageConfig) and teacher.config.backbone_type == "timm":
        config = copy.deepcopy(teacher.config)
        config.backbone_options = {**(config.backbone_options or {}), "depth": layers}
        return config
    values = {
        name: value
        for name, value in teacher.config.to_dict().items()
        if name not in ("out_features", "out_indices", "stage_names", "layer_types")
    }
    if isinstance(teacher.config, UnimodalImageConfig):
        values["backbone_config"] = {**values["backbone_config"], "num_hidden_layers": layers}
    else:
        values["num_hidden_layers"] = layers
    config = type(teacher.config).from_dict(values)
    config._attn_implementation = teacher.config._attn_implementation
    return config


def _is_timm_vit(model: nn.Module, name: str) -> bool:
    parent, _, last = name.rpartition(".")
    return last == "blocks" and hasattr(model.get_submodule(parent), "cls_token")
