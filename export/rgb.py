"""The RGB variant: RGB pixels to one probability per class, for programs that do not know this one.

A convolution of one pixel in front of the network computes grey. Behind it, float32 operators turn
logits into probabilities in every format, because quantizing the sigmoid makes 194 of 624 scores
exactly 0. The network between them is quantized and judged as in the other variants.

Programs such as MediaPipe Tasks take the most probable class or a probability above 0.5. The
operators therefore shift the logit so that the threshold of the file becomes 0.5. The probabilities
are then not the ones of temperature scaling, which `edge.classifier` restores.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from cxr_tfds.metrics.logits import logit

from .edge.runtime import INPUT, PROBABILITIES
from .flatbuffer import METADATA, classifier_metadata, pack

# Weights of R, G and B. Pillow's "L" rounds (0.299, 0.587, 0.114) of ITU-R BT.601. These are the
# nearest weights that int8 holds exactly (65, 127 and 25 steps of 1/217) and that sum to 1: grey
# images do not change, and the grey of a coloured pixel differs from Pillow's by at most 0.45
# before both are rounded, by 1 afterwards. float16, which rounds the weights, adds 0.1.
GREY = np.array([65, 127, 25], np.float64) / 217
GREY_LAYER = "grey"
# A probability equal to the threshold is positive, but of equal classes programs take the first.
_TIE = 1e-6
_EMPTY = 0  # the buffer of tensors without content


def with_grey(model: Any) -> Any:
    """Returns a Keras model from RGB (N, S, S, 3); each channel of `model` gets the same grey."""
    side, _, channels = model.input_shape[1:]
    pixels = keras.Input((side, side, 3), name=INPUT)
    grey = keras.layers.Conv2D(channels, 1, use_bias=False, dtype="float32", name=GREY_LAYER)
    outputs = model(grey(pixels))
    grey.set_weights([np.tile(GREY.astype(np.float32)[:, np.newaxis], (1, 1, 1, channels))])
    return keras.Model(pixels, outputs, name=model.name)


def choose_shift(threshold: float | tuple[float, ...] | None) -> float | tuple[float, ...]:
    """Returns what to subtract from logit / temperature so that 0.5 is the threshold.

    Of several findings, each has its own. More than two classes have none: 0.
    """
    if isinstance(threshold, tuple):
        return tuple(_choose_shift(value) for value in threshold)
    return 0.0 if threshold is None else _choose_shift(threshold)


def _choose_shift(threshold: float) -> float:
    place = float(logit(threshold, 1e-9))
    return float(np.float32(place - _TIE * max(1.0, abs(place))))


def with_probabilities(
    flatbuffer: bytes,
    temperature: float | tuple[float, ...],
    labels: tuple[str, ...],
    name: str,
    *,
    several_findings: bool = False,
    shift: float | tuple[float, ...] = 0.0,
) -> bytes:
    """Returns the flatbuffer with probabilities float32 (1, K) instead of logits, and metadata.

    The flatbuffer gives logits float32, (1, 1) for K = 2 classes or (1, K). `labels` are classes,
    or the findings that an image may combine, each with its own temperature. For `shift` see
    `choose_shift`; more than two classes have none.
    """
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    logits = int(graph.outputs[0])
    # sigmoid(-x) and sigmoid(x): 1 - sigmoid(x) would have no digits left for certain findings.
    is_binary = len(labels) == 2 and not several_findings
    signs = np.array([-1, 1] if is_binary else [1], np.float32)
    factors = signs / np.array(temperature, np.float32)
    factor = _add_tensor(graph, "factor", factors.shape, _add_buffer(model, factors.tobytes()))
    scaled = _add_tensor(graph, "scaled", (1, len(labels)))
    probabilities = _add_tensor(graph, PROBABILITIES, (1, len(labels)))
    _add_operator(model, "MUL", [logits, factor], scaled, schema.MulOptionsT())
    if is_binary or several_findings:
        offsets = -signs * np.array(shift, np.float32)
        place = _add_buffer(model, offsets.astype(np.float32).tobytes())
        offset = _add_tensor(graph, "offset", offsets.shape, place)
        shifted = _add_tensor(graph, "shifted", (1, len(labels)))
        _add_operator(model, "ADD", [scaled, offset], shifted, schema.AddOptionsT())
        _add_operator(model, "LOGISTIC", [shifted], probabilities)
    else:
        _add_operator(model, "SOFTMAX", [scaled], probabilities, schema.SoftmaxOptionsT(beta=1.0))
    graph.outputs = np.array([probabilities], np.int32)
    signature.outputs[0].name = PROBABILITIES
    signature.outputs[0].tensorIndex = probabilities
    description = f"Probability of {', '.join(labels)} in a radiograph."
    if np.any(shift):
        description += " Shifted: 0.5 is the decision threshold."
    buffer = _add_buffer(model, classifier_metadata(name, description))
    model.metadata = [*(model.metadata or []), schema.MetadataT(name=METADATA, buffer=buffer)]
    return pack(model)


def _add_buffer(model: Any, content: bytes) -> int:
    model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    return len(model.buffers) - 1


def _add_tensor(graph: Any, name: str, shape: tuple[int, ...], buffer: int = _EMPTY) -> int:
    kind, sides = schema.TensorType.FLOAT32, np.array(shape, np.int32)
    graph.tensors.append(schema.TensorT(shape=sides, type=kind, buffer=buffer, name=name))
    return len(graph.tensors) - 1


def _add_operator(
    model: Any, name: str, inputs: list[int], output: int, options: Any = None
) -> None:
    code = getattr(schema.BuiltinOperator, name)
    model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1)
    )
    kind = type(options).__name__.removesuffix("T") if options else "NONE"
    model.subgraphs[0].operators.append(
        schema.OperatorT(
            opcodeIndex=len(model.operatorCodes) - 1,
            inputs=np.array(inputs, np.int32),
            outputs=np.array([output], np.int32),
            builtinOptionsType=getattr(schema.BuiltinOptions, kind),
            builtinOptions=options,
        )
    )
