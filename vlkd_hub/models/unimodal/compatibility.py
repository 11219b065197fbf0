"""What transformers 4.57 and 5 call or do differently, under one name; here the models are written for 5.

With transformers 5 a config is a dataclass whose nested configs are declared. The exporter of optimum still needs 4.57,
so what a declared config needs there is added here; with transformers 5 this file only passes names on. It is kept
byte for byte the same in each model folder, as ``vision_tower.py`` is.
"""

from __future__ import annotations

import copy
from typing import Any

import transformers

__all__ = ["PreTrainedConfig", "SubConfigSpec", "bare_backbone", "image_backend"]

if int(transformers.__version__.split(".")[0]) >= 5:
    from transformers import PreTrainedConfig
    from transformers.configuration_utils import SubConfigSpec

    def image_backend(name: str) -> dict[str, Any]:
        """How ``AutoImageProcessor`` is asked for Pillow's resize (``"pil"``) or another's."""
        return {"backend": name}

    def bare_backbone(model: Any) -> Any:
        """The part of a vision model that its weights are named after."""
        return model

else:
    from transformers import PretrainedConfig

    def image_backend(name: str) -> dict[str, Any]:
        """How ``AutoImageProcessor`` is asked for Pillow's resize (``"pil"``) or another's."""
        return {"use_fast": name != "pil"}

    def bare_backbone(model: Any) -> Any:
        """The part of a vision model that its weights are named after; 4 wraps CLIP's once more than 5."""
        return getattr(model, "vision_model", model)

    class SubConfigSpec:  # type: ignore[no-redef]
        """A nested config: its class, or with ``AutoConfig`` the model type to take where none is named."""

        def __init__(self, config_class: Any, model_type: str | None = None) -> None:
            self.config_class = config_class
            self.model_type = model_type

        def build(self, value: Any) -> Any:
            """A config from a config, a dict or None."""
            if isinstance(value, PretrainedConfig):
                return value
            settings = dict(value or {})
            if self.model_type is None:
                return self.config_class(**settings)
            return self.config_class.for_model(settings.pop("model_type", self.model_type), **settings)

    class PreTrainedConfig(PretrainedConfig):  # type: ignore[no-redef]
        """Fields from the annotations of the subclass, nested configs from ``sub_configs_defaults``."""

        sub_configs_defaults: Any = {}

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            declared = cls.sub_configs_defaults.items()
            cls.sub_configs_defaults = {
                name: spec if isinstance(spec, SubConfigSpec) else SubConfigSpec(spec) for name, spec in declared
            }
            cls.sub_configs = {name: spec.config_class for name, spec in cls.sub_configs_defaults.items()}

        def __init__(self, **kwargs: Any) -> None:
            own = type(self).__mro__[: type(self).__mro__.index(PreTrainedConfig)]
            names = [name for kind in reversed(own) for name in kind.__dict__.get("__annotations__", {})]
            values = {name: kwargs.pop(name, copy.deepcopy(getattr(type(self), name))) for name in names}
            super().__init__(**kwargs)
            for name, value in values.items():
                setattr(self, name, value)
            self.__post_init__()

        def get_text_config(self, *args: Any, **kwargs: Any) -> Any:
            """Of two text configs ``generate`` wants the decoder's; 4 would call that ambiguous."""
            return self.decoder if "decoder" in self.sub_configs else super().get_text_config(*args, **kwargs)

        def __post_init__(self, **kwargs: Any) -> None:
            for name, spec in self.sub_configs_defaults.items():
                setattr(self, name, spec.build(getattr(self, name)))
