"""Whether a flatbuffer is a network that an interpreter can be given: checked before, because afterwards is too late.

The interpreters trust a model. tflite-runtime 2.14 follows offsets as they stand, and both compute with what they are
told: of 900 models with a number or a byte changed 61 ended its process and 2 that of LiteRT 2.3, none of them after
this check (measured 2026-11). 110,000 more found two ways past it, which it knows since; what no look at a file can
promise is that a kernel has no other fault of its own.

Fields and numbers are those of
https://github.com/tensorflow/tensorflow/blob/v2.14.0/tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from cxr_tfds.errors import InputError

from .flatbuffer import Damaged, Table
from .kernels import BOOL, FLOAT16, FLOAT32, INT8, INT16, INT32, INT64, OPERATORS, UINT8, Tensor

# Bytes of a value, by type.
_WIDTHS = {FLOAT32: 4, FLOAT16: 2, INT32: 4, UINT8: 1, INT64: 8, BOOL: 1, INT16: 2, INT8: 1}
_RANGES = {UINT8: (0, 255), INT8: (-128, 127), INT16: (-(2**15), 2**15 - 1)}
_VERSION = 3
_NO_OPTIONS = struct.pack(
    "<HHi", 4, 4, 4
)  # a table without fields: the interpreters then take each field as 0
_MOST_DIMENSIONS = 6
_MOST_BYTES = 2**31 - 1  # of all tensors


def check_structure(flatbuffer: bytes) -> None:
    """Checks that every part is there and fits the others. Takes a few milliseconds, whatever the weights.

    Raises:
      InputError: what is wrong.
    """
    try:
        _check_model(Table.root(flatbuffer))
    except Damaged as err:
        raise InputError(
            f"The model is no sound network: {err}. Export it again with cxr-export."
        ) from err


def _check_model(model: Table) -> None:
    _check(
        model.number(0, "I") == _VERSION,
        f"its schema has version {model.number(0, 'I')}, not {_VERSION}",
    )
    contents = [_content(buffer) for buffer in model.tables(4)]
    _check(not (contents and contents[0] is not None), "its first buffer is not empty")
    for entry in model.tables(6):
        entry.text(0)
        _check(entry.number(1, "I") < len(contents), "metadata without content")
    codes = [_code(code) for code in model.tables(1)]
    graphs = model.tables(2)
    _check(len(graphs) == 1, f"it has {len(graphs)} graphs, not one")
    (graph,) = graphs
    tensors = [_tensor(table, contents) for table in graph.tables(0)]
    size = sum(math.prod(tensor.shape) * _WIDTHS[tensor.type] for tensor in tensors)
    _check(size <= _MOST_BYTES, f"its tensors need {size:,} bytes, more than {_MOST_BYTES:,}")
    graph.text(4)
    inputs, outputs = (_indices(graph, field, tensors) for field in (1, 2))
    _check(len(inputs) == 1 and tensors[inputs[0]].content is None, "it has not one input")
    _check_order(graph.tables(3), codes, tensors, inputs, outputs)
    for signature in model.tables(7):
        _check_signature(signature, inputs, outputs)


def _content(buffer: Table) -> np.ndarray | None:
    # 0 and 1 mean that the content stands here; a converter puts it elsewhere beyond 2 GB only.
    _check(buffer.number(1, "Q") <= 1 and buffer.number(2, "Q") <= 1, "its weights are not inside")
    content = buffer.vector(0, np.uint8)
    return content if content is not None and len(content) else None


def _code(code: Table) -> int:
    """Number of an operator. Numbers up to 126 stand in an older field as well, in old files there alone."""
    _check(not code.has(1), "it has an operator of its own")
    number = max(code.number(0, "b"), code.number(3, "i"))
    if number not in OPERATORS:
        known = ", ".join(operator.name for operator in OPERATORS.values())
        raise InputError(
            f"The model has an operator of number {number}; cxr-infer knows {known}. Build the network of these, "
            "or export it again if the file may be damaged."
        )
    return number


def _tensor(table: Table, contents: Sequence[np.ndarray | None]) -> Tensor:
    shape = tuple(map(int, _numbers(table, 0)))
    kind, buffer = table.number(1, "b"), table.number(2, "I")
    table.text(3)
    _check(kind in _WIDTHS, f"it has a tensor of type {kind}")
    _check(
        not (table.number(5, "b") or table.has(6) or table.has(9) or table.has(10)),
        "it has a tensor of odd kind",
    )
    _check(
        len(shape) <= _MOST_DIMENSIONS and all(side > 0 for side in shape),
        f"it has a tensor of shape {shape}",
    )
    signature = _numbers(table, 7)
    _check(not len(signature) or len(signature) == len(shape), "it has a tensor with two shapes")
    _check(buffer < len(contents), "it has a tensor without a buffer")
    content = contents[buffer]
    whole = math.prod(shape) * _WIDTHS[kind]
    _check(
        content is None or len(content) == whole,
        f"it has a tensor {shape} with other content than {whole} bytes",
    )
    return Tensor(shape, kind, content, *_quantization(table.table(4), kind, shape))


def _quantization(table: Table | None, kind: int, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Scales and the axis they belong to."""
    if table is None:
        return np.empty(0, np.float32), 0
    _check(not table.number(4, "B"), "it is quantized in an unknown way")
    table.vector(0, np.float32)
    table.vector(1, np.float32)
    scales, points = table.vector(2, np.float32), table.vector(3, np.int64)
    scales = np.empty(0, np.float32) if scales is None else scales
    points = np.zeros(len(scales), np.int64) if points is None else points
    axis = table.number(6, "i")
    _check(
        len(scales) == len(points),
        "it has a tensor with another number of scales than of zero points",
    )
    _check(
        bool(np.isfinite(scales).all() and (scales > 0).all()),
        "it has a scale that is not positive",
    )
    low, high = _RANGES.get(kind, (0, 0))
    _check(
        bool((points >= low).all() and (points <= high).all()),
        "it has a zero point outside of its type",
    )
    if len(scales) > 1:
        _check(
            0 <= axis < len(shape) and shape[axis] == len(scales),
            "it has a tensor with scales for other channels",
        )
    return scales, axis


def _check_order(
    operators: Sequence[Table],
    codes: Sequence[int],
    tensors: Sequence[Tensor],
    inputs: list[int],
    outputs: list[int],
) -> None:
    """Each operator takes what is constant, given or computed before, and each tensor is computed once."""
    known = {number for number, tensor in enumerate(tensors) if tensor.content is not None} | set(
        inputs
    )
    for operator in operators:
        index = operator.number(0, "I")
        _check(index < len(codes), "it has an operator without a name")
        takes, gives = _indices(operator, 1, tensors, optional=True), _indices(operator, 2, tensors)
        _check(
            known.issuperset(number for number in takes if number >= 0),
            "an operator takes what is not there yet",
        )
        _check(
            known.isdisjoint(gives) and len(set(gives)) == len(gives), "a tensor is computed twice"
        )
        plain = not any(operator.has(field) for field in (5, 9, 10, 11, 12)) and not len(
            _numbers(operator, 8)
        )
        _check(plain and operator.vector(7, np.uint8) is None, "it has an operator of odd kind")
        what = OPERATORS[codes[index]]
        options, kind = operator.table(4), operator.number(3, "B")
        _check(kind in (0, what.options), f"{what.name} has odd options")
        what.check(
            # Without a type the interpreters leave the options unread.
            options if kind and options is not None else Table(_NO_OPTIONS, 4),
            [tensors[n] if n >= 0 else None for n in takes],
            [tensors[n] for n in gives],
        )
        known.update(gives)
    _check(known.issuperset(outputs) and bool(outputs), "it does not compute its outputs")


def _check_signature(signature: Table, inputs: list[int], outputs: list[int]) -> None:
    signature.text(2)
    _check(signature.number(4, "I") == 0, "a signature is of another graph")
    for field, places in ((0, inputs), (1, outputs)):
        for entry in signature.tables(field):
            entry.text(0)
            _check(
                entry.number(1, "I") in places,
                "a signature names a tensor that is no input or output",
            )


def _numbers(table: Table, field: int) -> np.ndarray:
    """A vector of int32, empty where it is absent."""
    found = table.vector(field, np.int32)
    return np.empty(0, np.int32) if found is None else found


def _indices(
    table: Table, field: int, tensors: Sequence[Tensor], *, optional: bool = False
) -> list[int]:
    """Numbers of tensors; -1 is one that is left out."""
    found = _numbers(table, field).tolist()
    least = -1 if optional else 0
    _check(
        all(least <= number < len(tensors) for number in found),
        "it names a tensor that is not there",
    )
    return found


def _check(right: bool, wrong: str) -> None:
    if not right:
        raise Damaged(wrong)
