"""The operators that exported models hold, and what must be true of their tensors for a kernel to be safe with them.

Codes, options and the numbers of their fields are those of TensorFlow's schema.fbs (see `structure`); shapes are what
the kernels in tensorflow/lite/kernels compute. Each check makes sure that the shape a model claims for a result is the
one the interpreter will find, so that no tensor grows beyond what was checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .flatbuffer import Damaged, Table

# Numbers of the types that the converter writes.
FLOAT32, FLOAT16, INT32, UINT8, INT64, BOOL, INT16, INT8 = 0, 1, 2, 3, 4, 6, 7, 9
_REAL = (FLOAT32, FLOAT16, INT32, INT64, BOOL)  # need no scale
_ACTIVATIONS = range(6)  # none, RELU, RELU_N1_TO_1, RELU6, TANH, SIGN_BIT
# Input, weights and bias of what multiplies.
_PRODUCTS = {
    (FLOAT32, FLOAT32, FLOAT32),
    (FLOAT32, INT8, FLOAT32),
    (INT8, INT8, INT32),
    (INT16, INT8, INT64),
    (INT16, INT8, INT32),
}


class Tensor(NamedTuple):
    """What a flatbuffer says of a tensor."""

    shape: tuple[int, ...]
    type: int
    content: np.ndarray | None  # uint8, None where it is computed
    scales: np.ndarray  # float32 (0,), (1,) or one a channel
    axis: int  # of the channels

    @property
    def numbers(self) -> list[int] | None:
        """The content of a constant of whole numbers, flat; None for others."""
        if self.content is None or self.type not in (INT32, INT64):
            return None
        return self.content.view(np.int32 if self.type == INT32 else np.int64).tolist()


Check = Callable[[Table, Sequence[Tensor], Tensor], bool]  # of options, inputs and the output


class Operator(NamedTuple):
    """An operator with one output."""

    name: str
    options: int  # the type of its options
    least: int  # inputs; those beyond may be left out
    most: int
    right: Check

    def check(
        self, options: Table, takes: Sequence[Tensor | None], gives: Sequence[Tensor]
    ) -> None:
        """Raises:
        Damaged: its tensors do not fit it.
        """
        given = [tensor for tensor in takes if tensor is not None]
        if (
            len(gives) != 1
            or len(takes) > self.most
            or len(given) < self.least
            or None in takes[: self.least]
        ):
            raise Damaged(f"{self.name} has {len(given)} inputs and {len(gives)} outputs")
        if not self.right(options, given, gives[0]):
            shapes = ", ".join(str(tensor.shape) for tensor in given)
            raise Damaged(f"{self.name} cannot make {gives[0].shape} of {shapes}")


def _convolution(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    image, weights = takes[:2]
    if len(image.shape) != 4 or len(weights.shape) != 4 or not _product(takes, gives, 0):
        return False
    count, rows, columns, inside = weights.shape
    groups, rest = divmod(image.shape[3], inside)
    grid = _grid(image, (rows, columns), options, (1, 2), (4, 5))
    fits = not rest and groups > 0 and not count % groups and options.number(3, "b") in _ACTIVATIONS
    return fits and grid is not None and gives.shape == (image.shape[0], *grid, count)


def _depthwise(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    image, weights = takes[:2]
    if len(image.shape) != 4 or len(weights.shape) != 4 or not _product(takes, gives, 3):
        return False
    one, rows, columns, count = weights.shape
    grid = _grid(image, (rows, columns), options, (1, 2), (5, 6))
    fits = (
        one == 1
        and image.shape[3] * options.number(3, "i") == count
        and options.number(4, "b") in _ACTIVATIONS
    )
    return fits and grid is not None and gives.shape == (image.shape[0], *grid, count)


def _pooling(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    (image,) = takes
    if len(image.shape) != 4 or not _alike(takes, gives):
        return False
    window = options.number(4, "i"), options.number(3, "i")
    grid = _grid(image, window, options, (1, 2), None)
    fits = options.number(5, "b") in _ACTIVATIONS
    return fits and grid is not None and gives.shape == (image.shape[0], *grid, image.shape[3])


def _fully_connected(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    image, weights = takes[:2]
    if len(weights.shape) != 2 or not image.shape or not _product(takes, gives, 0):
        return False
    units, inside = weights.shape
    batch, rest = divmod(math.prod(image.shape), inside)
    shape = (*image.shape[:-1], units) if options.number(2, "b") else (batch, units)
    kept = not options.number(2, "b") or image.shape[-1] == inside
    plain = options.number(0, "b") in _ACTIVATIONS and options.number(1, "b") == 0
    return plain and kept and not rest and gives.shape == shape


def _product(takes: Sequence[Tensor], gives: Tensor, axis: int) -> bool:
    """Whether types and scales of input, weights, bias and output go together; `axis` is that of the channels."""
    image, weights = takes[:2]
    count = weights.shape[axis]
    bias = takes[2] if len(takes) > 2 else None
    types = {(kinds[0], kinds[1]) for kinds in _PRODUCTS if bias is None or kinds[2] == bias.type}
    scaled = (
        weights.type == FLOAT32
        or len(weights.scales) == 1
        or (len(weights.scales) == count and weights.axis == axis)
    )
    return (
        (image.type, weights.type) in types
        and gives.type == image.type
        and _scaled(image)
        and _scaled(gives)
        and scaled
        and (bias is None or bias.shape == (count,))
    )


def _elementwise(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    try:
        shape = np.broadcast_shapes(*(tensor.shape for tensor in takes))
    except ValueError:
        return False
    return _alike(takes, gives) and gives.shape == shape


def _fused(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    """Elementwise, with an activation behind it."""
    return options.number(0, "b") in _ACTIVATIONS and _elementwise(options, takes, gives)


def _sum(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    """The kernel ends the process where the result's scale is too fine for what it shifts the terms by."""
    if not _fused(options, takes, gives):
        return False
    shift = {INT8: 20, UINT8: 20, INT16: 15}.get(gives.type)
    coarsest = max((float(tensor.scales[0]) for tensor in takes if len(tensor.scales)), default=0.0)
    return shift is None or 2 * coarsest < 2.0**shift * float(gives.scales[0])


def _squared_difference(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    """As `_sum`, but that the terms are squared."""
    if not _elementwise(options, takes, gives):
        return False
    coarsest = max((float(tensor.scales[0]) for tensor in takes if len(tensor.scales)), default=0.0)
    return gives.type in _REAL or (2 * coarsest) ** 2 < 2.0**14 * float(gives.scales[0])


def _conversion(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    """To another type or scale."""
    return gives.shape == takes[0].shape and _scaled(takes[0]) and _scaled(gives)


def _cast(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    return gives.shape == takes[0].shape


def _reduction(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    image, axes = takes
    rank = len(image.shape)
    if not axes.numbers or not all(-rank <= axis < rank for axis in axes.numbers):
        return False
    gone = {axis % rank for axis in axes.numbers}
    keep = options.number(0, "b")
    shape = tuple(
        1 if axis in gone else side
        for axis, side in enumerate(image.shape)
        if keep or axis not in gone
    )
    return _alike([image], gives) and gives.shape == shape


def _concatenation(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    rank, axis = len(gives.shape), options.number(0, "i")
    if not -rank <= axis < rank or any(len(tensor.shape) != rank for tensor in takes):
        return False
    axis %= rank
    sides = [(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in (*takes, gives)]
    whole = sum(tensor.shape[axis] for tensor in takes) == gives.shape[axis]
    return len(set(sides)) == 1 and whole and _alike(takes, gives) and options.number(1, "b") == 0


def _padding(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    image, margins = takes[:2]
    if not margins.numbers or margins.shape != (len(image.shape), 2) or min(margins.numbers) < 0:
        return False
    around = zip(margins.numbers[::2], margins.numbers[1::2], strict=True)
    shape = tuple(
        side + before + behind for side, (before, behind) in zip(image.shape, around, strict=True)
    )
    return gives.shape == shape and _alike([image], gives)


def _reshape(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    """Also what leaves out or adds sides of 1."""
    return math.prod(takes[0].shape) == math.prod(gives.shape) and takes[0].type == gives.type


def _new_shape(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    if len(takes) > 1:
        asked = takes[1].numbers if len(takes[1].shape) == 1 else None
    else:
        found = options.vector(0, np.int32)
        asked = None if found is None else found.tolist()
    known = asked is not None and len(asked) == len(gives.shape) and asked.count(-1) <= 1
    fits = known and all(
        side in (-1, own) for side, own in zip(asked or (), gives.shape, strict=False)
    )
    return fits and _reshape(options, takes, gives)


def _transpose(options: Table, takes: Sequence[Tensor], gives: Tensor) -> bool:
    image, order = takes
    if order.numbers is None or sorted(order.numbers) != list(range(len(image.shape))):
        return False
    return gives.shape == tuple(image.shape[axis] for axis in order.numbers) and _alike(
        [image], gives
    )


def _alike(takes: Sequence[Tensor], gives: Tensor) -> bool:
    """Whether all are of one type and have the scale it needs."""
    return all(tensor.type == gives.type and _scaled(tensor) for tensor in (*takes, gives))


def _scaled(tensor: Tensor) -> bool:
    return tensor.type in _REAL or len(tensor.scales) == 1


def _grid(
    image: Tensor,
    window: tuple[int, int],
    options: Table,
    strides: tuple[int, int],
    dilations: tuple[int, int] | None,
) -> tuple[int, int] | None:
    """Rows and columns of what a window (rows, columns) gives that is moved over the image; None if it cannot be.

    `strides` and `dilations` are the options' fields of width and height; field 0 is the padding.
    """
    along = []
    for side, length, axis in zip(image.shape[1:3], window, (1, 0), strict=True):
        stride = options.number(strides[axis], "i")
        dilation = options.number(dilations[axis], "i", 1) if dilations else 1
        if min(stride, dilation, length) < 1 or max(stride, dilation, length) > 2**15:
            return None
        inside = side - (length - 1) * dilation if options.number(0, "b") == 1 else side
        along.append(-(-inside // stride))
    return (along[0], along[1]) if min(along) > 0 and options.number(0, "b") in (0, 1) else None


# By code in the schema. Convolutions always come with a bias: int8 kernels end the process without.
OPERATORS = {
    0: Operator("ADD", 11, 2, 2, _sum),
    1: Operator("AVERAGE_POOL_2D", 5, 1, 1, _pooling),
    2: Operator("CONCATENATION", 10, 1, 1000, _concatenation),
    3: Operator("CONV_2D", 1, 3, 3, _convolution),
    4: Operator("DEPTHWISE_CONV_2D", 2, 3, 3, _depthwise),
    6: Operator("DEQUANTIZE", 38, 1, 1, _conversion),
    9: Operator("FULLY_CONNECTED", 8, 2, 3, _fully_connected),
    14: Operator("LOGISTIC", 0, 1, 1, _elementwise),
    17: Operator("MAX_POOL_2D", 5, 1, 1, _pooling),
    18: Operator("MUL", 21, 2, 2, _fused),
    19: Operator("RELU", 0, 1, 1, _elementwise),
    21: Operator("RELU6", 0, 1, 1, _elementwise),
    22: Operator("RESHAPE", 17, 1, 2, _new_shape),
    25: Operator("SOFTMAX", 9, 1, 1, _elementwise),
    28: Operator("TANH", 0, 1, 1, _elementwise),
    34: Operator("PAD", 22, 2, 2, _padding),
    39: Operator("TRANSPOSE", 26, 2, 2, _transpose),
    40: Operator("MEAN", 27, 2, 2, _reduction),
    41: Operator("SUB", 28, 2, 2, _sum),
    42: Operator("DIV", 29, 2, 2, _fused),
    43: Operator("SQUEEZE", 30, 1, 1, _reshape),
    47: Operator("EXP", 33, 1, 1, _elementwise),
    53: Operator("CAST", 37, 1, 1, _cast),
    54: Operator("PRELU", 0, 2, 2, _elementwise),
    55: Operator("MAXIMUM", 39, 2, 2, _elementwise),
    57: Operator("MINIMUM", 39, 2, 2, _elementwise),
    70: Operator("EXPAND_DIMS", 52, 2, 2, _reshape),
    74: Operator("SUM", 27, 2, 2, _reduction),
    76: Operator("RSQRT", 0, 1, 1, _elementwise),
    82: Operator("REDUCE_MAX", 27, 2, 2, _reduction),
    98: Operator("LEAKY_RELU", 75, 1, 1, _elementwise),
    99: Operator("SQUARED_DIFFERENCE", 76, 2, 2, _squared_difference),
    111: Operator("ELU", 0, 1, 1, _elementwise),
    114: Operator("QUANTIZE", 89, 1, 1, _conversion),
    117: Operator("HARD_SWISH", 91, 1, 1, _elementwise),
    150: Operator("GELU", 116, 1, 1, _elementwise),
}
