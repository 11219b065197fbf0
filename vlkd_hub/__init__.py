"""vlkd-hub: distil large vision-language models into small students, export them, and serve them.

``import vlkd_hub`` imports nothing else: each name below brings its module (and torch, where it needs it) when it is
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vlkd_hub._version import __version__

if TYPE_CHECKING:
    from vlkd_hub.errors import (
        BundleError,
        DataError,
        HubError,
        InvalidInputError,
        MissingDependencyError,
        ParityError,
        RecipeError,
        VlkdError,
        WeightsError,
    )
    from vlkd_hub.inference import TorchStudent
    from vlkd_hub.models.vlkd.configuration_vlkd import VlkdConfig
    from vlkd_hub.models.vlkd.modeling_vlkd import VlkdForConditionalGeneration, VlkdModel
    from vlkd_hub.models.vlkd.processing_vlkd import VlkdProcessor
    from vlkd_hub.runtime import OnnxStudent

__all__ = [
    "BundleError",
    "DataError",
    "HubError",
    "InvalidInputError",
    "MissingDependencyError",
    "OnnxStudent",
    "ParityError",
    "RecipeError",
    "TorchStudent",
    "VlkdConfig",
    "VlkdError",
    "VlkdForConditionalGeneration",
    "VlkdModel",
    "VlkdProcessor",
    "WeightsError",
    "__version__",
]

_HOMES = {
    "BundleError": "vlkd_hub.errors",
    "DataError": "vlkd_hub.errors",
    "HubError": "vlkd_hub.errors",
    "InvalidInputError": "vlkd_hub.errors",
    "MissingDependencyError": "vlkd_hub.errors",
    "OnnxStudent": "vlkd_hub.runtime",
    "ParityError": "vlkd_hub.errors",
    "RecipeError": "vlkd_hub.errors",
    "TorchStudent": "vlkd_hub.inference",
    "VlkdConfig": "vlkd_hub.models",
    "VlkdError": "vlkd_hub.errors",
    "VlkdForConditionalGeneration": "vlkd_hub.models",
    "VlkdModel": "vlkd_hub.models",
    "VlkdProcessor": "vlkd_hub.models",
    "WeightsError": "vlkd_hub.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vlkd_hub' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
