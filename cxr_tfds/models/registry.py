"""The registry of models."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.models import reference
from cxr_tfds.models.backbones import backbone_model
from cxr_tfds.models.edge import edge
from cxr_tfds.models.weights import IMAGENET, NEW, check_weights, load_weights
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.text import did_you_mean, text_table

Shape = tuple[int, int, int]


class ModelEntry(NamedTuple):
    """A model and its properties."""

    build: Callable[[Shape, int], Any]  # takes (S, S, C) and number of logits; gives random weights
    source: str  # publication or origin
    smallest: int  # side of the smallest images it takes, in pixels
    channels: tuple[int, ...] | None  # numbers of channels it takes; None: any
    shape: Shape  # (S, S, C) of the images it was made for
    parameters: int  # with one logit at `shape`
    multiply_adds: int  # for one image at `shape`
    pretrained: bool = False  # whether ImageNet weights exist


_XRAY_CNN5 = (
    "https://towardsdatascience.com/"
    "medical-x-ray-%EF%B8%8F-image-classification-using-convolutional-neural-network-9a6d33b1c2a"
)
_DESCRIBED = "after its published description"
_PARTLY_DESCRIBED = f"{_DESCRIBED}; sizes chosen"
_ALEXNET = "after AlexNet, https://doi.org/10.1145/3065386; sizes chosen"
# Tests build the models and compare the numbers of parameters and multiply-adds.
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
        reference.ct_cnn3, _PARTLY_DESCRIBED, 32, (1,), (128, 128, 1), 4_288_129, 159_907_968
    ),
    "alexnet-gray": ModelEntry(
        reference.alexnet_gray, _ALEXNET, 57, (1,), (224, 224, 1), 14_212_801, 1_018_133_504
    ),
}
for _name, _source, _parameters, _multiply_adds in (
    ("mobilenetv3-small", "https://arxiv.org/abs/1905.02244", 939_697, 54_897_152),
    ("mobilenetv3-large", "https://arxiv.org/abs/1905.02244", 2_997_313, 214_081_920),
    ("efficientnetv2-b0", "https://arxiv.org/abs/2104.00298", 5_920_593, 716_807_456),
    ("densenet121", "https://arxiv.org/abs/1608.06993", 7_038_529, 2_833_138_688),
    ("resnet50v2", "https://arxiv.org/abs/1603.05027", 23_566_849, 3_480_209_408),
):
    _build = functools.partial(backbone_model, _name)
    MODELS[_name] = ModelEntry(
        _build, _source, 32, (1, 3), (224, 224, 1), _parameters, _multiply_adds, pretrained=True
    )


def build_model(name: str, shape: Shape, outputs: int, *, weights: str = NEW) -> Any:
    """Builds a model of `MODELS` with logits (N, `outputs`) and loads its weights.

    `weights` is "none", "imagenet" or a path. Raises an InputError if the model is unknown, does
    not take images of `shape`, or has no such weights.
    """
    check_shape(name, shape)
    check_weights(name, weights)
    model = MODELS[name].build(shape, outputs)
    load_weights(model, weights)
    return model


def check_shape(name: str, shape: Shape) -> None:
    """Raises an InputError if the model is unknown or does not take images of `shape` (S, S, C)."""
    if name not in MODELS:
        raise InputError(f"model: {did_you_mean(name, list(MODELS))}")
    entry = MODELS[name]
    side, channels = shape[0], shape[2]
    is_large_enough = side >= entry.smallest
    has_channels = entry.channels is None or channels in entry.channels
    if is_large_enough and has_channels:
        return
    expected = f"at least {entry.smallest} x {entry.smallest} pixels"
    if entry.channels is not None:
        plural = "" if entry.channels == (1,) else "s"
        expected += f" and {' or '.join(map(str, entry.channels))} channel{plural}"
    size = side if is_large_enough else entry.shape[0]
    wanted = channels if has_channels else entry.shape[2]
    config: dict[str, Any] = {"name": str(size), "size": size}
    if wanted == 3:
        config = {"name": f"{size}-rgb", "size": size, "channels": 3}
    # 224 is the default config; TFDS refuses a custom config with its name.
    option = "the config 224" if config["name"] == "224" else propose_config(**config)
    raise InputError(
        f"Model {name} takes images of {expected}; the dataset has {side} x {side} x {channels}. "
        f"Build a suitable one with your other settings and {option}, or, if it holds "
        f"source files (config original), add --size {size} --channels {wanted}."
    )


def list_models() -> str:
    """Returns a table of the models, their images, sizes, weights and sources."""
    rows = [("model", "images", "parameters", "multiply-adds", "weights", "source")]
    for name, entry in MODELS.items():
        images = "x".join(map(str, entry.shape))
        millions = f"{entry.multiply_adds / 1e6:,.0f} M"
        weights = IMAGENET if entry.pretrained else ""
        rows.append((name, images, f"{entry.parameters:,}", millions, weights, entry.source))
    return text_table(rows, "<<>><<")
