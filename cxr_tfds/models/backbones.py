"""Networks of `keras.applications` with one logit per class in place of their top layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cxr_tfds.models.head import logits

# ImageNet's RGB pixels scaled to 0..1, as in the mode "torch" of
# `keras.applications.imagenet_utils.preprocess_input`.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(NamedTuple):
    """A function of `keras.applications`; its network was trained on pixels * scale + offset."""

    function: str
    # One number or one per channel; None if the network contains its own normalization.
    scale: float | Sequence[float] | None = None
    offset: float | Sequence[float] = 0.0


BACKBONES = {
    "mobilenetv3-small": Backbone("MobileNetV3Small"),
    "mobilenetv3-large": Backbone("MobileNetV3Large"),
    "efficientnetv2-b0": Backbone("EfficientNetV2B0"),
    "densenet121": Backbone(
        "DenseNet121",
        scale=[1 / (255 * deviation) for deviation in _DEVIATION],
        offset=[-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
    ),
    "resnet50v2": Backbone("ResNet50V2", scale=1 / 127.5, offset=-1.0),
}


def backbone_model(name: str, shape: tuple[int, int, int], outputs: int) -> Any:
    """Returns a network of `keras.applications` with global average pooling and logits on top.

    The layers of the network are layers of the model itself and keep Keras's names, so that
    `--freeze` can name them.
    """
    from keras import Input, Model, layers

    pixels = x = Input(shape, name="image")
    if shape[2] == 1:
        x = layers.Concatenate(name="grey_to_rgb")([x, x, x])
    scale, offset = BACKBONES[name].scale, BACKBONES[name].offset
    if scale is not None:
        x = layers.Rescaling(scale, offset)(x)
    body = bare_network(name, input_tensor=x)
    return Model(pixels, logits(layers.GlobalAveragePooling2D()(body.output), outputs), name=name)


def bare_network(name: str, weights: str | None = None, **options: Any) -> Any:
    """Returns the network as Keras builds it, without its top layers; random weights by default."""
    import keras

    build = getattr(keras.applications, BACKBONES[name].function)
    return build(include_top=False, weights=weights, **options)
