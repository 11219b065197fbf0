"""The ways to write a graph in fewer bits: each takes a graph file and writes another, by onnxruntime's quantizers."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from vlkd_export.onnx.graph import save_graph
from vlkd_export.onnx.half import half_precision
from vlkd_export.quantize.graph import load_prepared, quantizable
from vlkd_export.quantize.tables import halve_weights, quantize_tables, shrink_convolutions
from vlkd_hub.errors import InvalidInputError

__all__ = ["METHODS", "Feeds", "applies", "write_variant"]

Feeds = dict[str, NDArray[Any]]
"""Inputs of one run of a graph."""

BLOCKS = {8: 128, 4: 32}
"""Weights with a scale of their own in the weight-only formats; smaller is nearer to the original and larger a file."""
ACCURACY_INT8 = 4
"""onnxruntime's level at which a weight-only product also takes its activations as int8."""


def write_variant(
    method: str,
    source: Path,
    target: Path,
    *,
    exclude: Collection[str] = (),
    feeds: Sequence[Feeds] = (),
    calibration: str = "minmax",
) -> None:
    """Write ``source`` by ``method`` to ``target``.

    Args:
        method: a key of :data:`METHODS`.
        source: fp32 graph.
        target: file to write.
        exclude: names of nodes (of the prepared graph) that stay fp32.
        feeds: inputs to calibrate on; only ``static`` and ``hybrid`` need them.
        calibration: ``minmax``, ``entropy`` or ``percentile``.

    Raises:
        InvalidInputError: the method is unknown, or needs inputs and got none.
    """
    if method not in METHODS:
        raise InvalidInputError(f"Unknown method {method!r}. Choose one of {', '.join(METHODS)}.")
    with _quiet():
        model = METHODS[method](source, target, set(exclude), feeds, calibration)
        if method not in ("fp32", "fp16"):
            quantize_tables(model, exclude)
        del model.graph.value_info[:], model.metadata_props[:]
        save_graph(model, target)


def applies(method: str, model: onnx.ModelProto) -> bool:
    """Whether a method makes a graph smaller, and other than a simpler method does."""
    kinds = {node.op_type for node in quantizable(model)}
    if method in ("fp32", "fp16", "weights16"):
        return True
    if method == "hybrid":
        return {"Conv", "MatMul"} <= kinds
    # Of a tower of convolutions products alone would leave the most as large as it was.
    return bool(kinds) and (method != "dynamic" or _share_of_products(model) > 0.5)


def _share_of_products(model: onnx.ModelProto) -> float:
    """Part of the quantizable weights that MatMul nodes hold."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    held = {
        kind: sum(sizes[n.input[1]] for n in quantizable(model) if n.op_type == kind) for kind in ("MatMul", "Conv")
    }
    return float(held["MatMul"] / max(1, sum(held.values())))


def _fp32(source: Path, target: Path, exclude: set[str], feeds: Sequence[Feeds], calibration: str) -> onnx.ModelProto:
    return onnx.load(source)


def _fp16(source: Path, target: Path, exclude: set[str], feeds: Sequence[Feeds], calibration: str) -> onnx.ModelProto:
    """Weights and arithmetic in float16; what goes in and comes out stays float32."""
    return half_precision(onnx.load(source), exclude)


def _dynamic(
    source: Path | onnx.ModelProto, target: Path, exclude: set[str], feeds: Sequence[Feeds], calibration: str
) -> onnx.ModelProto:
    """int8 weights, one scale a column; activations are measured and rounded as they come. Products only."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        _prepared(source),
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=sorted(exclude),
    )
    return onnx.load(target)


def _static(
    source: Path,
    target: Path,
    exclude: set[str],
    feeds: Sequence[Feeds],
    calibration: str,
    operators: tuple[str, ...] = ("Conv", "MatMul", "Clip", "Relu"),
) -> onnx.ModelProto:
    """int8 weights and activations with ranges seen in calibration, as QuantizeLinear and DequantizeLinear pairs."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if not feeds:
        raise InvalidInputError("static quantization needs pictures or texts to calibrate on, and got none.")
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    quantize_static(
        _prepared(source),
        target,
        _Reader(feeds),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(operators),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=sorted(exclude),
        calibrate_method=methods[calibration],
        # A MatMul of two activations (attention) stays in float; a MatMul's channels are its columns.
        extra_options={"MatMulConstBOnly": True, "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1}},
    )
    return onnx.load(target)


def _hybrid(source: Path, target: Path, exclude: set[str], feeds: Sequence[Feeds], calibration: str) -> onnx.ModelProto:
    """Convolutions static, products dynamic: a transformer's activations have outliers that a fixed range cuts."""
    static = _static(source, target, exclude, feeds, calibration, operators=("Conv", "Clip", "Relu"))
    del static.graph.value_info[:]
    return _dynamic(static, target, exclude, feeds, calibration)


def _weights(
    source: Path, target: Path, exclude: set[str], feeds: Sequence[Feeds], calibration: str, bits: int = 8
) -> onnx.ModelProto:
    """Weights in blocks of 8 or 4 bits for onnxruntime's MatMulNBits; those of a Conv as int8 with a DequantizeLinear.

    Activations keep their precision in a Conv, and in a MatMul on runtimes other than onnxruntime.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    options = DefaultWeightOnlyQuantConfig(
        block_size=BLOCKS[bits],
        is_symmetric=True,
        accuracy_level=ACCURACY_INT8,
        op_types_to_quantize=("MatMul",),
        bits=bits,
    )
    quantizer = MatMulNBitsQuantizer(
        _prepared(source), nodes_to_exclude=sorted(exclude), bits=bits, block_size=BLOCKS[bits], algo_config=options
    )
    quantizer.process()
    model: onnx.ModelProto = quantizer.model.model
    shrink_convolutions(model, exclude)
    return model


def _weights4(
    source: Path, target: Path, exclude: set[str], feeds: Sequence[Feeds], calibration: str
) -> onnx.ModelProto:
    return _weights(source, target, exclude, feeds, calibration, bits=4)


def _weights16(
    source: Path, target: Path, exclude: set[str], feeds: Sequence[Feeds], calibration: str
) -> onnx.ModelProto:
    """Weights stored as float16 and widened when the graph is opened: half the bytes, and the arithmetic of fp32."""
    model = load_prepared(source)
    halve_weights(model, exclude)
    return model


METHODS: dict[str, Callable[[Path, Path, set[str], Sequence[Feeds], str], onnx.ModelProto]] = {
    "fp32": _fp32,
    "fp16": _fp16,
    "dynamic": _dynamic,
    "static": _static,
    "hybrid": _hybrid,
    "weights": _weights,
    "weights4": _weights4,
    "weights16": _weights16,
}


def _prepared(source: Path | onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = load_prepared(source) if isinstance(source, Path) else source
    add_pre_process_metadata(model)
    return model


class _Reader:
    """Feeds as onnxruntime's calibrators ask for them."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        """The next inputs, or None after the last."""
        return next(self._feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizers tell each node and their own progress; a person who exports a student can do nothing with it."""
    logger, streams = logging.getLogger(), logging.getLogger("onnxruntime")
    levels = logger.level, streams.level
    logger.setLevel(logging.ERROR)
    streams.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        logger.setLevel(levels[0])
        streams.setLevel(levels[1])
