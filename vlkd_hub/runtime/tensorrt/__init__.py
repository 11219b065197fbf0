"""A bundle's graphs as TensorRT engines: shapes, the store of built engines, and the runner. No torch here.

``tensorrt`` itself is imported only by :mod:`vlkd_hub.runtime.tensorrt.engine_session`, when a session is opened.
"""

from __future__ import annotations

from vlkd_hub.runtime.tensorrt.engine_store import EngineKey, EngineStore
from vlkd_hub.runtime.tensorrt.plan import EnginePlan, read_plan
from vlkd_hub.runtime.tensorrt.profiles import Profile, ShapeRange
from vlkd_hub.runtime.tensorrt.provider_options import tensorrt_provider_options
from vlkd_hub.runtime.tensorrt.student import TensorrtStudent

__all__ = [
    "EngineKey",
    "EnginePlan",
    "EngineStore",
    "Profile",
    "ShapeRange",
    "TensorrtStudent",
    "read_plan",
    "tensorrt_provider_options",
]
