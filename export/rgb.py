"""A model for programs that know nothing of this one: RGB pixels in, one calibrated probability a class out.

In front of the network stands a convolution of one pixel that makes grey, behind it what turns logits into
probabilities, in float32 in every format: of a sigmoid quantized inside the graph 194 of 624 scores were
exactly 0. The network between them is quantized, judged and calibrated as always.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .edge.runtime import INPUT, PROBABILITIES
from .metadata import NAME, classifier_metadata

# Parts of R, G and B in the grey value. Pillow's "L" is (0.299, 0.587, 0.114) of ITU-R BT.601, rounded. These are
# the nearest that int8 holds exactly (65, 127 and 25 steps of 1/217) and that add up to 1: a grey image stays as
# it is, and the value of a coloured one differs by at most 0.45 of 255 from Pillow's before both are rounded, by 1
# after it. float16, which rounds the weights, adds 0.1.
GREY = np.array([65, 127, 25], np.float64) / 217
GREY_LAYER = "grey"
_ALIGNMENT = 16  # of weights, as in the schema: `force_align: 16`, which Python's generated classes leave out
_EMPTY = 0  # the buffer of tensors without content


def with_grey(model: Any) -> Any:
    """The model behind a convolution of one pixel: RGB (N, S, S, 3), 0 to 255, to what the model gives.

    Args:
      model: Keras, takes grey pixels (N, S, S, C); each of its channels gets the same grey.
    """
    import keras

    side, _, channels = model.input_shape[1:]
    pixels = keras.Input((side, side, 3), name=INPUT)
    grey = keras.layers.Conv2D(channels, 1, use_bias=False, dtype="float32", name=GREY_LAYER)
    answer = model(grey(pixels))
    grey.set_weights([np.tile(GREY.astype(np.float32)[:, np.newaxis], (1, 1, 1, channels))])
    return keras.Model(pixels, answer, name=model.name)


def as_rgb(images: np.ndarray) -> np.ndarray:
    """(N, S, S, 3) of images (N, S, S, C): a view that repeats the grey."""
    return np.broadcast_to(images[..., :1], (*images.shape[:-1], 3))


def with_probabilities(
    flatbuffer: bytes, temperature: float, labels: tuple[str, ...], name: str
) -> bytes:
    """The flatbuffer with probabilities float32 (1, K) instead of logits, and with standard metadata.

    Args:
      flatbuffer: one signature with one output, the logits float32 (1, 1) for K = 2 classes, or (1, K).
      temperature: that divides the logits.
      labels: K class names, in class order.
      name: of the model.
    """
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    logits = int(graph.outputs[0])
    # sigmoid(-x) and sigmoid(x): 1 - sigmoid(x) would have no digits left where the finding is sure.
    factors = np.array([-1, 1] if len(labels) == 2 else [1], np.float32) / np.float32(temperature)
    model.buffers.append(_buffer(factors.tobytes()))
    factor = _tensor(graph, "factor", factors.shape, len(model.buffers) - 1)
    shape = (1, len(labels))
    scaled = _tensor(graph, "scaled", shape, _EMPTY)
    probabilities = _tensor(graph, PROBABILITIES, shape, _EMPTY)
    _operator(model, "MUL", [logits, factor], scaled, schema.MulOptionsT())
    if len(labels) == 2:
        _operator(model, "LOGISTIC", [scaled], probabilities)
    else:
        _operator(model, "SOFTMAX", [scaled], probabilities, schema.SoftmaxOptionsT(beta=1.0))
    graph.outputs = np.array([probabilities], np.int32)
    signature.outputs[0].name = PROBABILITIES
    signature.outputs[0].tensorIndex = probabilities
    _add_metadata(
        model, classifier_metadata(name, f"Probability of {', '.join(labels)} in a radiograph.")
    )
    return _packed(model)


def _tensor(graph: Any, name: str, shape: tuple[int, ...], buffer: int) -> int:
    """Number of a new float32 tensor."""
    graph.tensors.append(
        schema.TensorT(
            shape=np.array(shape, np.int32),
            type=schema.TensorType.FLOAT32,
            buffer=buffer,
            name=name,
        )
    )
    return len(graph.tensors) - 1


def _operator(model: Any, name: str, inputs: list[int], output: int, options: Any = None) -> None:
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


def _add_metadata(model: Any, content: bytes) -> None:
    model.buffers.append(_buffer(content))
    entry = schema.MetadataT(name=NAME, buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or []), entry]


class _Aligned(schema.BufferT):
    """A buffer whose content is aligned as the schema wants it."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802, the name is given
        place = None
        if self.data is not None:
            content = bytes(self.data)
            builder.StartVector(1, len(content), _ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            place = builder.EndVector()
        schema.BufferStart(builder)
        if place is not None:
            schema.BufferAddData(builder, place)
        return schema.BufferEnd(builder)


def _buffer(content: bytes) -> Any:
    return _Aligned(data=np.frombuffer(content, np.uint8))


def _packed(model: Any) -> bytes:
    model.buffers = [_Aligned(data=buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
