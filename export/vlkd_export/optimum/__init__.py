"""Our model types for ``optimum-cli export onnx``, in an environment of optimum's own (transformers 4.57).

Nothing else here imports this package, and it is not imported by :mod:`vlkd_export`.
"""

from __future__ import annotations

from vlkd_export.optimum.register import register

__all__ = ["register"]
