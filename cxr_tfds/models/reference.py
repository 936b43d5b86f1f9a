"""Published systems, layer by layer, as a reference for this project's results.

The publications feed pixels scaled to 0..1 and end in a sigmoid. Here the scaling is inside the
model and the sigmoid outside. `cxr_tfds.training.recipes` holds their training settings.
"""

from __future__ import annotations

from typing import Any

from cxr_tfds.models.head import logits

_ALEXNET_SIDE = 6  # of the last feature maps, Krizhevsky et al. 2012, figure 2


def xray_cnn5(shape: tuple[int, int, int], outputs: int) -> Any:
    """Returns five 3 x 3 convolutions, each with pooling, and three dense layers.

    It has 1,467,137 parameters at 500 x 500 x 1 and agrees layer by layer with the summary printed
    in section 4.2 of "Medical X-ray Image Classification using Convolutional Neural Network",
    Towards Data Science; its URL is in `cxr_tfds.models.registry`.
    """
    from keras import layers

    pixels, x = _scaled_input(shape)
    for filters in (32, 32, 32, 64, 64):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dense(64, activation="relu")(x)
    return _model(pixels, x, outputs, "xray-cnn5")


def covid_cnn4(shape: tuple[int, int, int], outputs: int) -> Any:
    """Returns four 3 x 3 convolutions with dropout and two dense layers.

    It has 5,723,457 parameters at 224 x 224 x 3 and follows the published description (layers,
    counts, training and results), whose first publication could not be found. A variant with 64
    filters in the second convolution and 5,668,097 parameters is common in tutorials of 2020.
    """
    from keras import layers

    pixels, x = _scaled_input(shape)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    for filters in (128, 64, 128):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
        x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return _model(pixels, x, outputs, "covid-cnn4")


def pneumonia_cnn1(shape: tuple[int, int, int], outputs: int) -> Any:
    """Returns one 3 x 3 convolution with pooling and two dense layers.

    It has 3,937,409 parameters at 64 x 64 x 3 and follows the published description (layers,
    counts, training and results), whose first publication could not be found.
    """
    from keras import layers

    pixels, x = _scaled_input(shape)
    x = layers.MaxPooling2D()(layers.Conv2D(32, 3, activation="relu")(x))
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return _model(pixels, x, outputs, "pneumonia-cnn1")


def ct_cnn3(shape: tuple[int, int, int], outputs: int) -> Any:
    """Returns three blocks of convolution, batch norm and pooling and two dense layers, for CT.

    The published description gives the blocks and their first 32 filters, but no sizes. Chosen
    here: 128 x 128 x 1, 3 x 3 kernels with ReLU and padding, 32, 64 and 128 filters, 128 dense
    units, dropout 0.5.
    """
    from keras import layers

    pixels, x = _scaled_input(shape)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return _model(pixels, x, outputs, "ct-cnn3")


def alexnet_gray(shape: tuple[int, int, int], outputs: int) -> Any:
    """Returns five convolutions and three dense layers after AlexNet, for greyscale images.

    Kernels, strides, filters and overlapping pooling follow Krizhevsky, Sutskever and Hinton
    2012, https://doi.org/10.1145/3065386, section 3.5. The greyscale system built on it states its
    source size, 1400 x 1400, but no layer sizes. Chosen here: 224 x 224 x 1; one tower; no response
    normalization, which device runtimes lack; 1,024 dense units instead of 4,096, for two classes
    instead of 1,000. Larger feature maps than AlexNet's last 6 x 6 are averaged down towards that
    size: at 1400 pixels the first dense layer would otherwise have 462 million weights.
    """
    from keras import layers

    def conv(x: Any, filters: int, kernel: int, strides: int = 1) -> Any:
        options = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
        return layers.Conv2D(filters, kernel, strides, **options)(x)

    pixels, x = _scaled_input(shape)
    x = layers.MaxPooling2D(3, 2)(conv(x, 96, 11, strides=4))
    x = layers.MaxPooling2D(3, 2)(conv(x, 256, 5))
    x = conv(conv(conv(x, 384, 3), 384, 3), 256, 3)
    x = layers.MaxPooling2D(3, 2)(x)
    if (factor := -(-x.shape[1] // _ALEXNET_SIDE)) > 1:
        x = layers.AveragePooling2D(factor)(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(1024, activation="relu", kernel_initializer="he_normal")(x)
        x = layers.Dropout(0.5)(x)
    return _model(pixels, x, outputs, "alexnet-gray")


def _scaled_input(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Returns the input, pixels 0 to 255, and the same scaled to 0..1."""
    from keras import Input, layers

    pixels = Input(shape, name="image")
    return pixels, layers.Rescaling(1 / 255)(pixels)


def _model(pixels: Any, features: Any, outputs: int, name: str) -> Any:
    from keras import Model

    return Model(pixels, logits(features, outputs), name=name)
