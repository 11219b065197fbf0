"""``config.pbtxt``: Triton's description of one model, built as a dict and written in protobuf's text form.

The fields are those of ``inference.ModelConfig`` (triton-inference-server/common, ``protobuf/model_config.proto``);
a test parses every file with Triton's own generated code. Protobuf itself is not needed to write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto

from vlkd_hub.errors import InvalidInputError

__all__ = ["DATA_TYPES", "Enum", "Tensor", "graph_tensors", "tensor", "to_pbtxt"]

DATA_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.INT64: "TYPE_INT64",
}

Tensor = dict[str, Any]


class Enum(str):
    """A name of an enumeration, which the text form writes without quotes."""


def tensor(name: str, data_type: str, dims: Sequence[int], *, optional: bool = False) -> Tensor:
    """One input or output.

    Args:
        name: as the backend knows it.
        data_type: for example ``"TYPE_FP32"``.
        dims: without the batch where the model batches; -1 for any size.
        optional: whether a request may leave it out.
    """
    item: Tensor = {"name": name, "data_type": Enum(data_type), "dims": list(dims)}
    return item | ({"optional": True} if optional else {})


def graph_tensors(items: Sequence[onnx.ValueInfoProto], graph: str) -> list[Tensor]:
    """Inputs or outputs of an ONNX graph, whose first dimension is the batch.

    Raises:
        InvalidInputError: the batch is fixed, or a type is one that is not served.
    """
    found = []
    for item in items:
        kind = item.type.tensor_type
        dims = kind.shape.dim
        if not dims or not dims[0].dim_param:
            raise InvalidInputError(
                f"{item.name} of {graph} has a fixed batch, and Triton forms the batches. Export the student without "
                "--no-dynamic-axes."
            )
        if kind.elem_type not in DATA_TYPES:
            raise InvalidInputError(f"{item.name} of {graph} is of type {kind.elem_type}, which is not served here.")
        found.append(tensor(item.name, DATA_TYPES[kind.elem_type], [dim.dim_value or -1 for dim in dims[1:]]))
    return found


def to_pbtxt(config: Mapping[str, Any]) -> str:
    """The text of ``config.pbtxt``."""
    return "\n".join(_lines(config, "")) + "\n"


def _lines(fields: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for name, value in fields.items():
        items = value if isinstance(value, list) and not _is_scalar_list(value) else [value]
        for item in items:
            if isinstance(item, Mapping):
                lines += [f"{indent}{name} {{", *_lines(item, indent + "  "), f"{indent}}}"]
            else:
                lines.append(f"{indent}{name}: {_scalar(item)}")
    return lines


def _is_scalar_list(value: list[Any]) -> bool:
    return not any(isinstance(item, Mapping) for item in value)


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not isinstance(value, Enum):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return str(value)
