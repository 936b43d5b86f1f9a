"""A drawing of a model: its layers from top to bottom, with shapes and parameters."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cxr_tfds.plotting import (
    ACCENT,
    CLASS_COLOURS,
    LINE,
    MUTED,
    NEGATIVE,
    POSITIVE,
    TIMES,
    Picture,
    picture,
)

_WIDTH, _LEFT, _SHAPE = 6.4, 0.5, 4.15  # inches: the drawing, and where boxes begin and shapes end
_MOST = 44  # boxes; a deeper model is drawn as stages of equal map size
# Layers that change no shape and go into the box of the layer before them.
_JOINED = (
    "BatchNormalization",
    "ReLU",
    "Activation",
    "Dropout",
    "LeakyReLU",
    "LayerNormalization",
    "ZeroPadding2D",
)
_SHORT = {
    "BatchNormalization": "BN",
    "GlobalAveragePooling2D": "mean over the map",
    "MaxPooling2D": "max pool",
    "AveragePooling2D": "mean pool",
    "Add": "add",
    "Multiply": "multiply",
    "Concatenate": "join",
    "Rescaling": "rescale",
    "InputLayer": "image",
}
_COLOURS = {
    "Conv": NEGATIVE, "Dense": POSITIVE, "pool": CLASS_COLOURS[2], "add": CLASS_COLOURS[3], "join": CLASS_COLOURS[3],
    "mean": CLASS_COLOURS[2], "max": CLASS_COLOURS[2],
}  # fmt: skip


@dataclasses.dataclass
class Box:
    """A row of the drawing."""

    text: str
    shape: tuple[Any, ...]  # of what comes out, without the batch
    parameters: int
    layers: int = 1
    inputs: set[int] = dataclasses.field(default_factory=set)  # numbers of the boxes before it


def picture_of(model: Any) -> Picture:
    """The layers of a Keras model; those of a deep one gathered into stages."""
    boxes = layer_boxes(model)
    caption = "Bars: parameters. Purple: what is added or joined again further down."
    if len(boxes) > _MOST:
        boxes = stages(boxes)
        caption = "Layers gathered by the size of their maps. Bars: parameters."
    return picture(_draw(boxes), "model", "Layers of the model", caption)


def layer_boxes(model: Any) -> list[Box]:
    """One box a layer, in the order of computation; normalization and activation join the layer they follow."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    boxes = [Box("image", tuple(model.input_shape[1:]), 0)]
    place: dict[int, int] = {}  # layer, by id, to its box
    consumers = _consumers(layers)
    for layer in layers:
        before = [id(parent) for parent in _parents(layer)]
        inputs = {place.get(parent, 0) for parent in before}
        joins = (
            len(before) == 1
            and consumers.get(before[0], 0) == 1
            and inputs == {len(boxes) - 1} != {0}
        )
        if type(layer).__name__ in _JOINED and joins:
            last = boxes[-1]
            last.text += f" · {_name(layer)}"
            last.shape, last.layers = _shape(layer), last.layers + 1
            last.parameters += layer.count_params()
        else:
            boxes.append(
                Box(
                    _name(layer),
                    _shape(layer),
                    layer.count_params(),
                    inputs=inputs or {len(boxes) - 1},
                )
            )
        place[id(layer)] = len(boxes) - 1
    return boxes


def stages(boxes: list[Box]) -> list[Box]:
    """Neighbouring boxes whose maps have one size as one box."""
    gathered = [dataclasses.replace(boxes[0])]
    for box in boxes[1:]:
        last = gathered[-1]
        if len(gathered) > 1 and last.shape[:-1] == box.shape[:-1]:
            last.parameters, last.layers, last.shape = (
                last.parameters + box.parameters,
                last.layers + box.layers,
                box.shape,
            )
            last.text = f"{last.layers} layers"
        else:
            gathered.append(dataclasses.replace(box, inputs={len(gathered) - 1}))
    return gathered


def _parents(layer: Any) -> list[Any]:
    nodes = getattr(layer, "_inbound_nodes", [])
    return [parent.operation for parent in nodes[0].parent_nodes] if nodes else []


def _consumers(layers: list[Any]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for layer in layers:
        for parent in _parents(layer):
            counts[id(parent)] = counts.get(id(parent), 0) + 1
    return counts


def _shape(layer: Any) -> tuple[Any, ...]:
    output = layer.output
    return tuple((output[0] if isinstance(output, (list, tuple)) else output).shape[1:])


def _name(layer: Any) -> str:
    kind = type(layer).__name__
    if isinstance(layer, keras.Model):
        return f"{layer.name}, {len(layer.layers)} layers"
    if "Conv" in kind:
        size = TIMES.join(map(str, layer.kernel_size))
        stride = f" / {layer.strides[0]}" if max(layer.strides) > 1 else ""
        joined = _activation(layer)
        return f"{kind.removesuffix('2D')} {size}{stride}{joined}"
    if kind == "Dense":
        return f"Dense {layer.units}{_activation(layer)}"
    if kind == "Activation":
        return getattr(layer.activation, "__name__", "activation")
    if kind == "Dropout":
        return f"drop {layer.rate:g}"
    return _SHORT.get(kind, kind)


def _activation(layer: Any) -> str:
    name = getattr(layer.activation, "__name__", "linear")
    return "" if name == "linear" else f" · {name.replace('relu', 'ReLU')}"


def _draw(boxes: list[Box]) -> Figure:
    """A row a box, 0.3 inch high: arcs, the box, its output shape, its parameters."""
    rows = len(boxes)
    figure = Figure(figsize=(_WIDTH, 0.3 * rows + 0.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(-rows - 0.5, 1.5)
    axes.axis("off")
    heads = (
        (_LEFT + 0.12, "layer", "left"),
        (_SHAPE, "output", "right"),
        (_WIDTH - 0.1, "parameters", "right"),
    )
    for x, text, side in heads:
        axes.text(x, 0.95, text, ha=side, va="center", color=MUTED, fontsize=8)
    most = max(max(box.parameters for box in boxes), 1)
    for number, box in enumerate(boxes):
        _row(axes, box, -number, math.sqrt(box.parameters / most))
        for start in box.inputs:
            _connection(axes, start, number)
    total = sum(box.parameters for box in boxes)
    axes.plot([_LEFT, _WIDTH - 0.1], [-rows + 0.45] * 2, color=LINE, linewidth=0.8)
    axes.text(
        _WIDTH - 0.1, -rows, f"{total:,}", ha="right", va="center", fontsize=9, fontweight="bold"
    )
    axes.text(_LEFT + 0.12, -rows, "all", ha="left", va="center", fontsize=9, fontweight="bold")
    return figure


def _row(axes: Any, box: Box, y: float, share: float) -> None:
    colour = next((colour for word, colour in _COLOURS.items() if word in box.text), MUTED)
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch(
            (_LEFT, y - 0.37), 2.7, 0.74, boxstyle=style, facecolor=colour, alpha=0.14, lw=0
        )
    )
    axes.barh(y, 0.05, left=_LEFT, height=0.74, color=colour)
    text = box.text if len(box.text) < 40 else box.text[:38] + "…"
    axes.text(_LEFT + 0.14, y, text, ha="left", va="center", fontsize=8.5)
    axes.text(_SHAPE, y, _sized(box.shape), ha="right", va="center", fontsize=8.5)
    axes.barh(y, 1.0 * share, left=_SHAPE + 0.2, height=0.42, color=ACCENT, alpha=0.3)
    count = f"{box.parameters:,}" if box.parameters else "·"
    axes.text(_WIDTH - 0.1, y, count, ha="right", va="center", fontsize=8.5)


def _connection(axes: Any, start: int, end: int) -> None:
    """A short line to the next box; at the left a way round to one further down."""
    if end - start == 1:
        axes.plot([_LEFT + 0.25] * 2, [-start - 0.37, -end + 0.37], color=MUTED, linewidth=1)
        return
    out = max(_LEFT - 0.1 - 0.035 * (end - start), 0.06)
    colour = CLASS_COLOURS[3]
    axes.plot(
        [_LEFT, out, out, _LEFT - 0.07], [-start, -start, -end, -end], color=colour, linewidth=1.1
    )
    axes.plot([_LEFT - 0.05], [-end], marker=">", markersize=4, color=colour)


def _sized(shape: tuple[Any, ...]) -> str:
    return f" {TIMES} ".join("?" if side is None else str(side) for side in shape)
