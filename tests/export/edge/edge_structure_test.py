"""Networks that cannot be, under a card that vouches for them: refused before an interpreter sees them."""

import dataclasses
import random
import struct
import subprocess
import sys
import warnings

import flatbuffers as packer
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from cxr_tfds.errors import InputError
from cxr_tfds.export.edge import kernels, runtime
from cxr_tfds.export.edge.model_file import append_card
from cxr_tfds.export.edge.structure import check_structure

NETWORKS = ("network-int8", "network-float32", "network-rgb")
_WHOLE = (
    -(2**31),
    -1000,
    -2,
    -1,
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    16,
    17,
    32,
    127,
    128,
    255,
    1000,
    65536,
    2**20,
    2**31 - 1,
)
_REAL = (0.0, -1.0, 1e30, 1e-30, float("nan"), float("inf"))


def unpacked(flatbuffer):
    """The model as objects of the schema, to change and to pack again."""
    return schema.ModelT.InitFromPackedBuf(
        bytearray(flatbuffer), 0
    )  # whose lists of numbers can be written


def packed(model):
    builder = packer.Builder(1 << 14)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def operator(model, name):
    """The first operator of a name, and its tensors: inputs, then the output."""
    graph = model.subgraphs[0]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    number = getattr(schema.BuiltinOperator, name)
    found = next(operator for operator in graph.operators if codes[operator.opcodeIndex] == number)
    return found, [graph.tensors[place] for place in (*found.inputs, *found.outputs)]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_converter_writes_is_sound(flatbuffers, name):
    check_structure(flatbuffers[name])
    check_structure(packed(unpacked(flatbuffers[name])))


def test_operators_are_those_of_the_schema():
    for code, known in kernels.OPERATORS.items():
        assert getattr(schema.BuiltinOperator, known.name) == code
        kind = next(
            name for name, number in vars(schema.BuiltinOptions).items() if number == known.options
        )
        if known.options:
            expected = (
                known.name.replace("_", "").removesuffix("2D").replace("REDUCEMAX", "REDUCER")
            )
            aliases = {
                "AVERAGEPOOL": "POOL2D",
                "MAXPOOL": "POOL2D",
                "CONV": "CONV2D",
                "DEPTHWISECONV": "DEPTHWISECONV2D",
            }
            aliases |= {
                "MEAN": "REDUCER",
                "SUM": "REDUCER",
                "MAXIMUM": "MAXIMUMMINIMUM",
                "MINIMUM": "MAXIMUMMINIMUM",
            }
            assert kind.upper() == aliases.get(expected, expected) + "OPTIONS"


def stride_of_zero(model):
    operator(model, "CONV_2D")[0].builtinOptions.strideW = 0


def window_of_nothing(model):
    operator(model, "MAX_POOL_2D")[0].builtinOptions.filterHeight = 0


def no_options(model):
    found, _ = operator(model, "CONV_2D")
    found.builtinOptionsType, found.builtinOptions = 0, None


def options_of_another(model):
    found, _ = operator(model, "CONV_2D")
    found.builtinOptionsType, found.builtinOptions = (
        schema.BuiltinOptions.AddOptions,
        schema.AddOptionsT(),
    )


def filter_for_more_channels(model):
    _, (_, weights, *_) = operator(model, "DEPTHWISE_CONV_2D")
    weights.shape = weights.shape[[0, 1, 3, 2]]


def weights_cut_off(model):
    _, (_, weights, *_) = operator(model, "FULLY_CONNECTED")
    buffer = model.buffers[weights.buffer]
    buffer.data = buffer.data[:-1]


def tensor_not_there(model):
    operator(model, "ADD")[0].inputs[1] = 1000


def buffer_not_there(model):
    operator(model, "CONV_2D")[1][1].buffer = 1000


def no_bias(model):
    found, _ = operator(model, "DEPTHWISE_CONV_2D")
    found.inputs = found.inputs[:2]


def circle(model):
    found, _ = operator(model, "CONV_2D")
    found.inputs[0] = found.outputs[0]


def no_scale(model):
    operator(model, "CONV_2D")[1][0].quantization = None


def scale_that_is_no_number(model):
    operator(model, "CONV_2D")[1][1].quantization.scale[0] = np.nan


def sum_of_too_fine_a_scale(model):
    operator(model, "ADD")[1][-1].quantization.scale[0] = 1e-30


def scales_for_other_channels(model):
    quantization = operator(model, "CONV_2D")[1][1].quantization
    quantization.scale, quantization.zeroPoint = (
        quantization.scale[:-1],
        quantization.zeroPoint[:-1],
    )


def shape_that_is_not_computed(model):
    operator(model, "CONCATENATION")[1][-1].shape[1] += 1


def padding_below_zero(model):
    _, (_, margins, _) = operator(model, "PAD")
    model.buffers[margins.buffer].data = np.full(8, -5, np.int32).view(np.uint8)


def another_shape_asked_for(model):
    _, tensors = operator(model, "RESHAPE")
    model.buffers[tensors[1].buffer].data = np.array([7, 7], np.int32).view(np.uint8)


def unknown_type(model):
    operator(model, "ADD")[1][0].type = schema.TensorType.STRING


def negative_side(model):
    operator(model, "ADD")[1][-1].shape[2] = -8


def too_large(model):
    for tensor in model.subgraphs[0].tensors:
        if len(tensor.shape) == 4 and model.buffers[tensor.buffer].data is None:
            tensor.shape[0] = 2**24


def two_graphs(model):
    model.subgraphs.append(model.subgraphs[0])


def signature_of_a_tensor_inside(model):
    model.signatureDefs[0].outputs[0].tensorIndex = operator(model, "ADD")[0].outputs[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (stride_of_zero, "CONV_2D cannot make"),
        (window_of_nothing, "MAX_POOL_2D cannot make"),
        (no_options, "CONV_2D cannot make"),
        (options_of_another, "CONV_2D has odd options"),
        (filter_for_more_channels, "it has a tensor with scales for other channels"),
        (weights_cut_off, r"it has a tensor \(.*\) with other content than \d+ bytes"),
        (tensor_not_there, "it names a tensor that is not there"),
        (buffer_not_there, "it has a tensor without a buffer"),
        (no_bias, "DEPTHWISE_CONV_2D has 2 inputs and 1 outputs"),
        (circle, "an operator takes what is not there yet"),
        (no_scale, "CONV_2D cannot make"),
        (scale_that_is_no_number, "it has a scale that is not positive"),
        (sum_of_too_fine_a_scale, "ADD cannot make"),
        (scales_for_other_channels, "it has a tensor with scales for other channels"),
        (shape_that_is_not_computed, "CONCATENATION cannot make"),
        (padding_below_zero, "PAD cannot make"),
        (another_shape_asked_for, "RESHAPE cannot make"),
        (unknown_type, "it has a tensor of type 5"),
        (negative_side, r"it has a tensor of shape \(1, 8, -8, 4\)"),
        (too_large, r"its tensors need [\d,]+ bytes, more than 2,147,483,647"),
        (two_graphs, "it has 2 graphs, not one"),
        (signature_of_a_tensor_inside, "a signature names a tensor that is no input or output"),
    ],
)
def test_a_network_that_cannot_be(flatbuffers, change, said):
    model = unpacked(flatbuffers["network-int8"])
    change(model)
    with pytest.raises(
        InputError,
        match=rf"^The model is no sound network: {said}.*\. Export it again with cxr-export\.$",
    ):
        runtime.load(packed(model))


def test_an_operator_that_is_not_known(flatbuffers):
    model = unpacked(flatbuffers["network-int8"])
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.WHILE
    with pytest.raises(
        InputError,
        match=r"^The model has an operator of number 119; cxr-infer knows ADD, AVERAGE_POOL_2D, ",
    ):
        runtime.load(packed(model))


@pytest.mark.parametrize("name", runtime.installed())
@pytest.mark.parametrize("network", NETWORKS)
def test_damage_under_a_hash_that_was_made_anew(flatbuffers, card, tmp_path, network, name):
    """Fields of every table, and bytes, are others; each file ends in an answer or in one clear error."""
    card = dataclasses.replace(card, size=16)
    if network == "network-rgb":
        card = dataclasses.replace(
            card, labels=("a", "b", "c"), channels=3, threshold=None, input="rgb"
        )
    content = flatbuffers[network]
    (tmp_path / "000-whole.tflite").write_bytes(append_card(content, card))
    rng = random.Random(f"{network} {name}")
    for number in range(1, 201):
        change = rng.choice((lie, lie, flip))
        damaged = change(content, rng)
        path = tmp_path / f"{number:03}-{change.__name__}.tflite"
        path.write_bytes(append_card(damaged[:4] + content[4:8] + damaged[8:], card))
    run = [sys.executable, "-c", _RUN, tmp_path, name]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]}: code {done.returncode}, {done.stderr[-2000:]}"
    found = dict(line.split() for line in lines)
    assert len(found) == 201
    assert found.pop("000-whole.tflite") == "answer"
    for outcome in ("answer", "error"):  # both happen
        assert sum(other == outcome for other in found.values()) > 30


_RUN = """
import resource, sys
from pathlib import Path
import numpy as np
from cxr_tfds.errors import InputError
from cxr_tfds.export.edge.classifier import Classifier
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        model = Classifier(path, sys.argv[2])
        for grey in (0, 255):
            assert model.predict(np.full((16, 16, model.card.channels), grey, np.uint8)).label in model.labels
        print("answer", flush=True)
    except InputError as err:
        assert str(err).strip()
        print("error", flush=True)
"""


def lie(flatbuffer, rng):
    """One field of one table, or an entry of it, is another one; the flatbuffer itself is sound."""
    while True:
        model = unpacked(flatbuffer)
        change(*rng.choice(fields(model)), rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                changed = packed(model)
        except Exception:  # what cannot be packed is no file
            continue
        if changed != flatbuffer:
            return changed


def flip(flatbuffer, rng):
    """A few bytes, or an offset, are others."""
    changed = bytearray(flatbuffer)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(changed) - 4)
        if rng.random() < 0.7:
            changed[place] = rng.choice(
                (0, 1, 0x7F, 0x80, 0xFF, changed[place] ^ 1 << rng.randrange(8))
            )
        else:
            word = rng.choice(
                (0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(2 * len(changed)))
            )
            struct.pack_into("<I", changed, place & ~3, word)
    return bytes(changed)


def fields(thing):
    """Everything in the model that can be changed: its owner and its name there."""
    found = []
    for name, value in vars(thing).items():
        found.append((thing, name))
        for inside in value if isinstance(value, list) else [value]:
            if hasattr(inside, "__dict__"):
                found += fields(inside)
    return found


def change(thing, name, rng):
    value = getattr(thing, name)
    if isinstance(value, (bool, np.bool_)):
        value = not value
    elif isinstance(value, (int, np.integer)):
        value = rng.choice(_WHOLE) if rng.random() < 0.7 else int(value) + rng.choice((-1, 1))
    elif isinstance(value, float):
        value = rng.choice(_REAL)
    elif isinstance(value, np.ndarray) and len(value):
        value = changed_numbers(value, rng)
    elif isinstance(value, list) and value:
        value = value.copy()
        part = value.pop(rng.randrange(len(value)))
        value += rng.choice(([], [part], [part, part]))  # left out, moved to the end, doubled
    else:
        value = None
    setattr(thing, name, value)


def changed_numbers(values, rng):
    way = rng.randrange(3)
    if way == 0:
        return values[: rng.randrange(len(values))]
    if way == 1:
        return np.concatenate([values, values[-1:]])
    values = values.copy()
    number = np.array(rng.choice(_WHOLE if values.dtype.kind in "iu" else _REAL))
    values[rng.randrange(len(values))] = number.astype(values.dtype)
    return values
