"""The models by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.models import reference
from cxr_tfds.models.backbones import backbone_model
from cxr_tfds.models.edge import edge
from cxr_tfds.models.weights import IMAGENET, NEW, find_weights, load_weights
from cxr_tfds.reading.names import config_option
from cxr_tfds.text import did_you_mean

Shape = tuple[int, int, int]


class ModelEntry(NamedTuple):
    """A model and what `--list-models` says of it.

    Attributes:
      build: takes the shape of the images and the number of classes, gives a Keras model with new weights.
      source: where it comes from, in a line.
      smallest: side of the smallest images it takes, pixels.
      channels: those it takes; None: any.
      shape: of the images it was made for, (S, S, C).
      parameters: of the model for two classes at `shape`.
      multiply_adds: of the same, for one image.
      pretrained: whether there are ImageNet weights for it.
    """

    build: Callable[[Shape, int], Any]
    source: str
    smallest: int
    channels: tuple[int, ...] | None
    shape: Shape
    parameters: int
    multiply_adds: int
    pretrained: bool = False


def _backbone(name: str, source: str, parameters: int, multiply_adds: int) -> ModelEntry:
    build = functools.partial(backbone_model, name)
    return ModelEntry(
        build, source, 32, (1, 3), (224, 224, 1), parameters, multiply_adds, pretrained=True
    )


_XRAY_CNN5 = (
    "https://towardsdatascience.com/"
    "medical-x-ray-%EF%B8%8F-image-classification-using-convolutional-neural-network-9a6d33b1c2a"
)
_DESCRIBED = "after its published description"
_ALEXNET = "after AlexNet, https://doi.org/10.1145/3065386; sizes chosen"
# The last two numbers are measured, of a model for two classes; tests build the models and compare.
MODELS: dict[str, ModelEntry] = {
    "edge": ModelEntry(edge, "cxr-tfds", 32, None, (224, 224, 1), 349_505, 92_976_224),
    "xray-cnn5": ModelEntry(
        reference.xray_cnn5, _XRAY_CNN5, 94, (1,), (500, 500, 1), 1_467_137, 858_887_360
    ),
    "covid-cnn4": ModelEntry(
        reference.covid_cnn4, _DESCRIBED, 32, (3,), (224, 224, 3), 5_723_457, 2_891_660_736
    ),
    "pneumonia-cnn1": ModelEntry(
        reference.pneumonia_cnn1, _DESCRIBED, 32, (3,), (64, 64, 3), 3_937_409, 7_257_600
    ),
    "ct-cnn3": ModelEntry(
        reference.ct_cnn3,
        f"{_DESCRIBED}; sizes chosen",
        32,
        (1,),
        (128, 128, 1),
        4_288_129,
        159_907_968,
    ),
    "alexnet-gray": ModelEntry(
        reference.alexnet_gray, _ALEXNET, 57, (1,), (224, 224, 1), 14_212_801, 1_018_133_504
    ),
    "mobilenetv3-small": _backbone(
        "mobilenetv3-small", "https://arxiv.org/abs/1905.02244", 939_697, 54_897_152
    ),
    "mobilenetv3-large": _backbone(
        "mobilenetv3-large", "https://arxiv.org/abs/1905.02244", 2_997_313, 214_081_920
    ),
    "efficientnetv2-b0": _backbone(
        "efficientnetv2-b0", "https://arxiv.org/abs/2104.00298", 5_920_593, 716_807_456
    ),
    "densenet121": _backbone(
        "densenet121", "https://arxiv.org/abs/1608.06993", 7_038_529, 2_833_138_688
    ),
    "resnet50v2": _backbone(
        "resnet50v2", "https://arxiv.org/abs/1603.05027", 23_566_849, 3_480_209_408
    ),
}


def build_model(name: str, shape: Shape, classes: int, *, weights: str = NEW) -> Any:
    """A model that maps pixels 0 to 255 (N, S, S, C) to logits, float32.

    Args:
      name: of `MODELS`.
      shape: (S, S, C) of the images.
      classes: at least 2; two give logits (N, 1), K more give (N, K).
      weights: "none", "imagenet" or a path, see `cxr_tfds.models.weights.find_weights`.

    Raises:
      InputError: the model is unknown or does not take such images, or its weights cannot be had.
    """
    check_shape(name, shape)
    path = find_weights(name, weights)
    model = MODELS[name].build(shape, classes)
    if path is not None:
        load_weights(model, path)
    return model


def check_shape(name: str, shape: Shape) -> None:
    """Raises:
    InputError: the model is unknown, or images of `shape` (S, S, C) are too small for it or have other channels.
    """
    if name not in MODELS:
        raise InputError(f"model: {did_you_mean(name, list(MODELS))}")
    entry = MODELS[name]
    side, channels = shape[0], shape[2]
    large_enough, fitting = (
        side >= entry.smallest,
        entry.channels is None or channels in entry.channels,
    )
    if large_enough and fitting:
        return
    takes = f"at least {entry.smallest} x {entry.smallest} pixels"
    if entry.channels is not None:
        takes += f" and {' or '.join(map(str, entry.channels))} channel{'' if entry.channels == (1,) else 's'}"
    size = side if large_enough else entry.shape[0]
    wanted = channels if fitting else entry.shape[2]
    option = config_option(f"{size}-rgb" if wanted == 3 else str(size))
    raise InputError(
        f"model {name} takes images of {takes}; the dataset has {side} x {side} x {channels}. Build one that fits "
        f"with: tfds build … {option or '(the config 224)'}, or give --size {size} --channels {wanted} where it holds "
        "source files (config original)."
    )


def list_models() -> str:
    """A table: name, images it was made for, parameters and multiply-adds for these, ImageNet weights, source."""
    rows = [("model", "images", "parameters", "multiply-adds", "weights", "source")]
    for name, entry in MODELS.items():
        cost = f"{entry.multiply_adds / 1e6:,.0f} M"
        weights = IMAGENET if entry.pretrained else ""
        rows.append(
            (
                name,
                "x".join(map(str, entry.shape)),
                f"{entry.parameters:,}",
                cost,
                weights,
                entry.source,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{name:<{widths[0]}}  {images:<{widths[1]}}  {parameters:>{widths[2]}}  {cost:>{widths[3]}}  "
        f"{weights:<{widths[4]}}  {source}"
        for name, images, parameters, cost, weights, source in rows
    ]
    return "\n".join(lines)
