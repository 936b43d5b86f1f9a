"""Quantizes some layers of a model to int8: all but the kept ones, or one to measure its error.

Built on AI Edge Quantizer. Its ranges are the minimum and maximum of each activation, as in
TensorFlow's converter: on the `edge` network the scales and zero points of all tensors but the two
in front of residual additions equal the ones in the converter's int8 file (2026-11).
"""

from __future__ import annotations

import collections
import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
from ai_edge_quantizer.quantizer import Quantizer
from ai_edge_quantizer.recipe_manager import RecipeManager
from ai_edge_quantizer.utils.qsv_utils import min_max_update

from cxr_tfds.errors import InputError
from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.text import did_you_mean

from .edge.runtime import INPUT, SIGNATURE
from .flatbuffer import pack
from .formats import Format
from .inference import run_in_litert

_FUSED = ("/batchnorm/", "/Relu")  # parts of a tensor's name that are fused into the layer before
_OUTPUT_LAYER = "logits"  # output tensors have the signature's name instead of a layer's


class SelectiveQuantizer:
    """Quantizes single layers of a float32 flatbuffer that `convert.to_tflite` wrote."""

    def __init__(
        self, flatbuffer: bytes, model_name: str, representative: Iterable[np.ndarray]
    ) -> None:
        """Measures the range of each activation on uint8 images (S, S, C)."""
        self._flatbuffer = flatbuffer
        self._tensors: dict[str, list[str]] = collections.defaultdict(list)  # by layer
        model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
        (graph,) = model.subgraphs
        for operator in graph.operators:
            tensor = graph.tensors[operator.outputs[0]].name.decode()
            self._tensors[_layer_name(tensor, model_name)].append(tensor)
        takes_uint8 = graph.tensors[graph.inputs[0]].type == schema.TensorType.UINT8
        pixel_type = np.uint8 if takes_uint8 else np.float32
        self._ranges = self._calibrate_ranges(
            image[np.newaxis].astype(pixel_type) for image in representative
        )

    def quantize_except(self, keep_float: Sequence[str], form: Format) -> bytes:
        """Returns the model in int8, with the layers named in `keep_float` in float32.

        Raises:
          InputError: There is no such layer, or it is the output layer, whose type the format sets.
        """
        layers = [name for name in self._tensors if name != _OUTPUT_LAYER]
        for layer in keep_float:
            if layer not in layers:
                raise InputError(f"--keep-float {did_you_mean(layer, layers)}")
        quantizer = self._quantizer(".*")
        kept = [(self._pattern(layer), TFLOperationName.ALL_SUPPORTED) for layer in keep_float]
        if form.input_type == "float32":
            kept.append((".*", TFLOperationName.INPUT))
        if form.output_type == "float32":
            kept.append((".*", TFLOperationName.OUTPUT))
        for pattern, operation in kept:
            quantizer.update_quantization_recipe(
                pattern, operation, algorithm_key=AlgorithmName.NO_QUANTIZE
            )
        return self._quantize(quantizer)

    def layer_errors(self, images: np.ndarray) -> dict[str, float]:
        """Returns what each layer loses if it alone is quantized, by Keras name, largest first.

        The error is the root mean square difference of the logits of uint8 images (N, S, S, C).
        """
        expected = run_in_litert(self._flatbuffer, images)
        errors = {}
        for layer in self._tensors:
            quantized = self._quantize(self._quantizer(self._pattern(layer)))
            difference = run_in_litert(quantized, images) - expected
            errors[layer] = float(np.sqrt(np.mean(difference**2)))
        return dict(sorted(errors.items(), key=lambda item: -item[1]))

    def _pattern(self, layer: str) -> str:
        return "|".join(f"^{re.escape(tensor)}(;|$)" for tensor in self._tensors[layer])

    def _quantizer(self, pattern: str) -> Any:
        """Returns a quantizer that quantizes operators whose output's name matches the pattern."""
        quantizer = Quantizer(self._flatbuffer)
        quantizer.add_static_config(pattern, TFLOperationName.ALL_SUPPORTED, 8, 8)
        # One scale for each dense layer, as TensorFlow's converter does.
        one_scale = (8, 8, QuantGranularity.TENSORWISE)
        quantizer.add_static_config(pattern, TFLOperationName.FULLY_CONNECTED, *one_scale)
        return quantizer

    def _calibrate_ranges(self, images: Iterable[np.ndarray]) -> Any:
        recipe = RecipeManager()
        recipe.load_quantization_recipe(self._quantizer(".*").get_quantization_recipe())
        with _quiet():
            # The default is a moving average, whose ranges clip: the logits of the `edge` network
            # then differed by up to 5.6 instead of 0.1 (2026-11).
            calibrator = Calibrator(self._flatbuffer, qsv_update_func=min_max_update)
            for image in images:  # one by one, because the calibrator copies all it is given
                calibrator.calibrate({SIGNATURE: [{INPUT: image}]}, recipe)
        return calibrator.get_model_qsvs()

    def _quantize(self, quantizer: Any) -> bytes:
        with _quiet():
            result = quantizer.quantize(self._ranges, enable_progress_report=False)
        content = bytes(result.quantized_model)
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        # The quantizer puts weights behind the flatbuffer; tflite-runtime 2.14 needs them inside.
        for buffer in model.buffers:
            if buffer.offset > 1:
                end = buffer.offset + buffer.size
                buffer.data = np.frombuffer(content[buffer.offset : end], np.uint8)
        return pack(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with suppress_native_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the interpreter keeps all tensors in memory
        yield


def _layer_name(tensor: str, model: str) -> str:
    """Returns the layer of a tensor such as "edge_1/re_lu_1/Relu;edge_1/conv2d_1/convolution"."""
    parts = [part for part in tensor.split(";") if not any(word in part for word in _FUSED)]
    scope, _, inside = (parts or [tensor])[0].partition("/")
    inside = inside.removeprefix(f"{scope}/")  # twice if a grey layer is in front of the model
    if not inside:
        return _OUTPUT_LAYER
    # Keras appends a number to the name of a model that it traces again, and to its layers.
    return inside.partition("/")[0].removesuffix(scope.removeprefix(model))
