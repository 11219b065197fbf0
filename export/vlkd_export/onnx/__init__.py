"""A student as ONNX graphs: one exporter a graph, and the assembly of the bundle."""

from __future__ import annotations
