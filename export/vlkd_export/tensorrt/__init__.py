"""Graphs for TensorRT made from a bundle, and engines built from those graphs.

Everything but :mod:`vlkd_export.tensorrt.builder` works without TensorRT and without a GPU.
"""

from __future__ import annotations
