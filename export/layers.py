"""What each layer loses when it is quantized to int8, and quantizing all but some layers.

Built on what `tf.lite.experimental.QuantizationDebugger` is made of, in TensorFlow 2.21: the calibrated
model, and the quantizer that leaves out `denylisted_nodes` or compares each layer with float32.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from cxr_tfds.errors import InputError
from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.text import did_you_mean

_NO_COMPUTATION = ("/batchnorm/", "/Relu")  # fused into the layer before


class LayerError(NamedTuple):
    """A layer's int8 activations against float32, given the same int8 activations of the layers before."""

    layer: str  # as Keras names it
    node: str  # as the quantizer names it
    mean_squared_error: float
    steps: float  # its root in steps of the layer's scale; rounding alone gives 0.29


def layer_errors(calibrated: bytes, name: str, images: Iterable[np.ndarray]) -> list[LayerError]:
    """The error of each layer, worst first.

    Args:
      calibrated: what `convert.calibrated` gives; each output of the model counts as a layer "logits".
      name: of the Keras model.
      images: uint8 (S, S, C).
    """
    with suppress_native_stderr(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the debugger builds on an interpreter that warns of its end
        debugger = tf.lite.experimental.QuantizationDebugger(
            quant_debug_model_content=mlir_quantize(
                calibrated, fully_quantize=True, enable_numeric_verify=True
            ),
            debug_dataset=lambda: ([image[np.newaxis].astype(np.float32)] for image in images),
        )
        debugger.run()
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    found = [_row(row, name) for row in csv.DictReader(io.StringIO(table.getvalue()))]
    return sorted(found, key=lambda error: -error.mean_squared_error)


def _row(row: dict[str, str], model: str) -> LayerError:
    error = float(row["mean_squared_error"])
    return LayerError(
        _layer(row["tensor_name"], model),
        row["tensor_name"],
        error,
        error**0.5 / float(row["scale"]),
    )


def _layer(node: str, model: str) -> str:
    """The Keras layer that a node such as "edge_1/re_lu_1/Relu;edge_1/conv2d_1/convolution" computes."""
    parts = [part for part in node.split(";") if not any(word in part for word in _NO_COMPUTATION)]
    scope, _, inside = (parts or [node])[0].partition("/")
    inside = inside.removeprefix(
        f"{scope}/"
    )  # twice where a grey layer stands in front of the model
    if not inside:
        return "logits"  # an output has the signature's name instead of a layer's
    # Keras appends a number to the name of a model that it traces again, and the same to its layers.
    return inside.partition("/")[0].removesuffix(scope.removeprefix(model))


def quantized_except(
    calibrated: bytes, errors: Sequence[LayerError], keep: Sequence[str], types: tuple[Any, Any]
) -> bytes:
    """The calibrated model in int8, but for the layers named in `keep`, which stay float32.

    `types` are TensorFlow's, of the input and of the outputs.

    Raises:
      InputError: there is no such layer, or it is the output, which the quantizer does not leave out.
    """
    nodes = {error.layer: error.node for error in errors if "/" in error.node}
    for layer in keep:
        if layer not in nodes:
            raise InputError(f"--keep-float {did_you_mean(layer, list(nodes))}")
    with suppress_native_stderr():
        return mlir_quantize(
            calibrated,
            input_data_type=types[0],
            output_data_type=types[1],
            denylisted_nodes=[nodes[layer] for layer in keep],
        )


def report(errors: Sequence[LayerError]) -> str:
    """The errors for people, worst first."""
    width = max(len(error.layer) for error in errors)
    rows = [
        f"  {error.layer:<{width}}  {error.mean_squared_error:11.6f}  {error.steps:8.2f}"
        for error in errors
    ]
    return "\n".join([f"  {'layer':<{width}}  mean square  in steps", *rows])
