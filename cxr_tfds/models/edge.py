"""`edge`, the default network."""

from __future__ import annotations

from typing import Any

from cxr_tfds.models.head import logits


def edge(shape: tuple[int, int, int], outputs: int) -> Any:
    """Returns a small residual CNN for int8: convolutions, batch norm, ReLU, pooling and one dense.

    After conversion only RESHAPE, CONV_2D, ADD, MUL, MEAN and FULLY_CONNECTED remain. All have
    per-channel int8 kernels in tflite-runtime 2.14 and LiteRT; batch norm folds into the
    convolutions. Scaling to 0..1 is a pure factor, so that zero padding means black before and
    after quantization.

    The stem reduces the image by four at once: at 224 pixels, feature maps of full resolution would
    cost more than all other layers. Pooling followed by one dense layer gives an exact class
    activation map (Zhou et al. 2016, https://arxiv.org/abs/1512.04150).
    """
    from keras import Input, Model, layers

    def conv(x: Any, filters: int, kernel: int = 3, strides: int = 1, relu: bool = True) -> Any:
        x = layers.Conv2D(
            filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        return layers.ReLU()(x) if relu else x

    def residual(x: Any, filters: int) -> Any:
        return layers.ReLU()(layers.Add()([x, conv(conv(x, filters), filters, relu=False)]))

    pixels = Input(shape, name="image")
    x = layers.Rescaling(1 / 255)(pixels)
    x = conv(x, 32, kernel=7, strides=4)
    x = residual(conv(x, 48, strides=2), 48)
    x = residual(conv(x, 96, strides=2), 96)
    x = conv(x, 96, strides=2)
    x = layers.GlobalAveragePooling2D()(x)
    return Model(pixels, logits(x, outputs), name="edge")
