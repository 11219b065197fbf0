"""The one place that guards optional imports and names the extra to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from vlkd_hub.errors import MissingDependencyError

__all__ = ["require"]


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, or say which extra brings it.

    Args:
        module: dotted name, for example ``"onnxruntime"``.
        extra: the extra of this distribution that installs it, for example ``"serve"``.

    Raises:
        MissingDependencyError: the package is not installed. An error inside an installed package passes unchanged.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingDependencyError(
            f"'{module.split('.')[0]}' is needed here and is not installed. Run: pip install \"vlkd-hub[{extra}]\""
        ) from error
