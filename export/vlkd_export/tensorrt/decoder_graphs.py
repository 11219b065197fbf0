"""The decoder's one graph as two: the first step, which has no past, and every later one.

One graph for both would need an ``If`` or an empty input; TensorRT refuses branches of different shapes, and an
optimisation profile that starts at length 0 costs the tuning of every other length.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from vlkd_hub.errors import InvalidInputError

__all__ = ["first_step", "split_decoder"]

PAST = "past_"


def split_decoder(decoder: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """``decoder_first`` without past inputs and ``decoder_next``, which is the graph as it was."""
    return {"decoder_first": first_step(decoder), "decoder_next": decoder}


def first_step(decoder: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every past input taken as empty.

    A ``Concat`` of the past and something becomes that something; the past's length becomes 0.

    Raises:
        InvalidInputError: the graph has no past input, or uses one in another way.
    """
    model = onnx.ModelProto()
    model.CopyFrom(decoder)
    graph = model.graph
    past = {item.name for item in graph.input if item.name.startswith(PAST)}
    if not past:
        raise InvalidInputError("The decoder graph has no past input, so there is no first step to take out of it.")
    for node in list(graph.node):
        used = [name for name in node.input if name in past]
        if not used:
            continue
        if node.op_type == "Concat" and len(node.input) - len(used) == 1:
            rest = next(name for name in node.input if name not in past)
            del node.input[:], node.attribute[:]
            node.op_type = "Identity"
            node.input.append(rest)
        elif node.op_type == "Shape" and _is_length(node):
            node.CopyFrom(_zero(node))
        else:
            raise InvalidInputError(
                f"The decoder graph reads {used[0]!r} in a {node.op_type}; a first step without a past can be taken "
                "only out of graphs that join the past or ask for its length. Export the student again."
            )
    kept = [item for item in graph.input if item.name not in past]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(kept)
    for item in graph.output:
        for dim in item.type.tensor_type.shape.dim:
            if PAST.rstrip("_") in dim.dim_param:
                dim.dim_param = "step"
    return onnx.shape_inference.infer_shapes(model)


def _is_length(node: onnx.NodeProto) -> bool:
    """Whether a ``Shape`` node gives the third dimension of ``(B, heads, P, dh)`` alone."""
    attributes = {item.name: item.i for item in node.attribute}
    return attributes.get("start") == 2 and attributes.get("end") == 3


def _zero(node: onnx.NodeProto) -> onnx.NodeProto:
    """``[0]`` under the node's name and output."""
    value = helper.make_tensor(f"{node.output[0]}_value", TensorProto.INT64, [1], [0])
    return helper.make_node("Constant", [], list(node.output), name=node.name, value=value)
