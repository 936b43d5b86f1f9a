"""The networks of `keras.applications`, with one logit a class in place of their 1,000."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cxr_tfds.models.head import logits

WEIGHTS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
# Of ImageNet's RGB pixels scaled to 0..1, as `keras.applications.imagenet_utils` has them in its mode "torch".
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(NamedTuple):
    """A network of `keras.applications`.

    Attributes:
      function: that builds it.
      folder: below `WEIGHTS_URL`, of its ImageNet weights.
      file: of the weights without the top layers; Keras keeps it in ~/.keras/models.
      md5: of that file.
      scale: and `offset`: pixels * scale + offset is what it was trained on, each one number or one a
        channel; None where the network brings its own normalization.
    """

    function: str
    folder: str
    file: str
    md5: str
    scale: float | Sequence[float] | None = None
    offset: float | Sequence[float] = 0.0


BACKBONES = {
    "mobilenetv3-small": Backbone(
        "MobileNetV3Small",
        "mobilenet_v3",
        "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    "mobilenetv3-large": Backbone(
        "MobileNetV3Large",
        "mobilenet_v3",
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "07fb09a5933dd0c8eaafa16978110389",
    ),
    "efficientnetv2-b0": Backbone(
        "EfficientNetV2B0",
        "efficientnet_v2",
        "efficientnetv2-b0_notop.h5",
        "893217f2bb855e2983157299931e43ff",
    ),
    "densenet121": Backbone(
        "DenseNet121",
        "densenet",
        "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "30ee3e1110167f948a6b9946edeeb738",
        scale=[1 / (255 * deviation) for deviation in _DEVIATION],
        offset=[-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
    ),
    "resnet50v2": Backbone(
        "ResNet50V2",
        "resnet",
        "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "fac2f116257151a9d068a22e544a4917",
        scale=1 / 127.5,
        offset=-1.0,
    ),
}


def backbone_model(name: str, shape: tuple[int, int, int], classes: int) -> Any:
    """A network of `keras.applications` without its top layers, global average pooling, and the logits.

    Grey pixels are repeated to the three channels that the network was made for. Its layers lie flat in
    the model, under the names that Keras gives them, so that they can be named to freeze them.
    The weights are new; `cxr_tfds.models.weights` loads trained ones.
    """
    from keras import Input, Model, layers

    pixels = x = Input(shape, name="image")
    if shape[2] == 1:
        x = layers.Concatenate(name="grey_to_rgb")([x, x, x])
    scale, offset = BACKBONES[name].scale, BACKBONES[name].offset
    if scale is not None:
        x = layers.Rescaling(scale, offset)(x)
    body = bare(name, input_tensor=x)
    return Model(pixels, logits(layers.GlobalAveragePooling2D()(body.output), classes), name=name)


def bare(name: str, **options: Any) -> Any:
    """The network as Keras builds it, without its top layers, with new weights."""
    import keras

    return getattr(keras.applications, BACKBONES[name].function)(
        include_top=False, weights=None, **options
    )
