"""A student as a model repository for NVIDIA's Triton Inference Server."""

from __future__ import annotations
