"""``optimum-cli`` reads every file of this folder when it starts; this one makes its exporter know our models.

The folder is a namespace that optimum's parts share (PEP 420), and so holds no ``__init__.py``. Registering imports
transformers, so it is done only for the command that needs it.
"""

from __future__ import annotations

import sys

REGISTER_COMMANDS: list[object] = []

if {"export", "onnx"} <= set(sys.argv):
    from vlkd_export.optimum import register

    register()
