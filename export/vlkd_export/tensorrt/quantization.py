"""Explicit quantization for TensorRT: Q/DQ nodes around the products, everything else untouched.

TensorRT wants signed, symmetric values (zero point 0), weights by channel, and no quantized biases; integer operators
(``MatMulInteger``, ``DynamicQuantizeLinear``), as dynamic int8 for the CPU has them, it does not read at all.

Source: onnxruntime.ai/docs/performance/model-optimizations/quantization.html, and the operator table in
:mod:`vlkd_export.tensorrt.operator_support`.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from vlkd_hub.errors import InvalidInputError

__all__ = ["QUANTIZED_OPERATORS", "insert_quantization"]

Feeds = Mapping[str, NDArray[Any]]

QUANTIZED_OPERATORS = ("Conv", "Gemm", "MatMul")
FP8_OPSET = 19
"""The first opset whose Q/DQ nodes know 8-bit floats."""


class _Recorded(CalibrationDataReader):
    """Recorded inputs, one call after the other."""

    def __init__(self, calls: Sequence[Feeds]) -> None:
        self._calls: Iterator[Feeds] = iter(calls)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        call = next(self._calls, None)
        return None if call is None else dict(call)


def insert_quantization(model: onnx.ModelProto, precision: str, calls: Sequence[Feeds]) -> onnx.ModelProto:
    """Quantize the products whose second factor is a weight.

    Products of two activations (attention's scores, and their mix) stay: they hold few of the operations of these
    models and much of their range.

    Args:
        model: fp32; it is left as it is.
        precision: ``"int8"`` or ``"fp8"`` (E4M3; the graph is raised to opset 19).
        calls: recorded inputs of the graph, from which the ranges of its activations are taken.

    Raises:
        InvalidInputError: another precision, or no recorded call.
    """
    kinds = {"int8": QuantType.QInt8, "fp8": QuantType.QFLOAT8E4M3FN}
    if precision not in kinds:
        raise InvalidInputError(f"Explicit quantization is int8 or fp8, got {precision!r}.")
    if not calls:
        raise InvalidInputError(f"{precision} needs recorded inputs to take the ranges of the activations from.")
    model = _copy(model)
    if precision == "fp8" and model.opset_import[0].version < FP8_OPSET:
        model = onnx.version_converter.convert_version(model, FP8_OPSET)
    _name_nodes(model)
    with tempfile.TemporaryDirectory() as work, _quiet():
        source, target = Path(work) / "fp32.onnx", Path(work) / "quantized.onnx"
        del model.graph.value_info[:]  # traced shapes of the exporter disagree with those of the calibrator
        onnx.save_model(model, source)
        quantize_static(
            source,
            target,
            _Recorded(_of_one_shape(calls) if precision == "fp8" else calls),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            nodes_to_exclude=_without_weight(model),
            per_channel=precision == "int8",
            activation_type=kinds[precision],
            weight_type=kinds[precision],
            calibrate_method=CalibrationMethod.Distribution if precision == "fp8" else CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": False,
                "OpTypesToExcludeOutputQuantization": list(QUANTIZED_OPERATORS),
                "scenario": "same",
            },
        )
        quantized = onnx.load(target)
    return onnx.shape_inference.infer_shapes(quantized)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer prints, and advises a preparation that the exporter has done already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _of_one_shape(calls: Sequence[Feeds]) -> list[Feeds]:
    """The calls of the most frequent shape: the calibrator for 8-bit floats stacks them."""
    shapes = [tuple((name, array.shape) for name, array in call.items()) for call in calls]
    usual = Counter(shapes).most_common(1)[0][0]
    return [call for call, shape in zip(calls, shapes, strict=True) if shape == usual]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _name_nodes(model: onnx.ModelProto) -> None:
    """The quantizer leaves nodes out by name."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def _without_weight(model: onnx.ModelProto) -> list[str]:
    weights = {item.name for item in model.graph.initializer if np.prod(item.dims) > 1}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in QUANTIZED_OPERATORS and not any(name in weights for name in node.input[1:2])
    ]
