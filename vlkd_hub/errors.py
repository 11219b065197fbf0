"""Exceptions of vlkd-hub. Torch-free: every part of the product, the server included, raises these.

Each message says what was expected, what came, and what to do.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "DataError",
    "HubError",
    "InvalidInputError",
    "MissingDependencyError",
    "ParityError",
    "RecipeError",
    "TrainingError",
    "VlkdError",
    "WeightsError",
]


class VlkdError(Exception):
    """Base class: catch this to catch every error that vlkd-hub raises on purpose."""


class InvalidInputError(VlkdError, ValueError):
    """A value handed in by the caller (a picture, a question, an option) cannot be used."""


class DataError(VlkdError, ValueError):
    """A data set, split or record is missing, malformed or empty."""


class RecipeError(VlkdError, ValueError):
    """A recipe holds an unknown key or a value out of range."""


class TrainingError(VlkdError, FloatingPointError):
    """A run cannot go on: a loss that is not finite, a teacher that gives no numbers, a checkpoint of another run."""


class BundleError(VlkdError, ValueError):
    """An exported bundle or an index folder is incomplete, changed or of another version."""


class WeightsError(VlkdError, ValueError):
    """A weight file is absent, incomplete, malformed, or of a format that can run code."""


class HubError(VlkdError, OSError):
    """A repository of the Hub cannot be fetched or written."""


class ParityError(VlkdError):
    """An exported graph does not answer as the model it came from."""


class MissingDependencyError(VlkdError, ImportError):
    """A package of an optional extra is not installed."""
