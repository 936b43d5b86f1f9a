"""The systems of published articles, layer by layer, to measure ours against.

The articles fed pixels scaled to 0..1 and ended in a sigmoid: the scaling is inside the models, the
sigmoid is applied outside. How each was trained stands in `cxr_tfds.training.recipes`.
"""

from __future__ import annotations

from typing import Any

from cxr_tfds.models.head import logits

_ALEXNET_SIDE = 6  # of the last feature maps, Krizhevsky et al. 2012, figure 2


def xray_cnn5(shape: tuple[int, int, int], classes: int) -> Any:
    """Five convolutions of 3 x 3, each with pooling, and three dense layers: 1,467,137 parameters at 500 x 500 x 1.

    Section 4.2 of "Medical X-ray Image Classification using Convolutional Neural Network", Towards Data Science,
    https://towardsdatascience.com/medical-x-ray-%EF%B8%8F-image-classification-using-convolutional-neural-network-9a6d33b1c2a;
    this model has the counts of the summary printed there, layer by layer.
    """
    from keras import Model, layers

    pixels, x = _scaled(shape)
    for filters in (32, 32, 32, 64, 64):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dense(64, activation="relu")(x)
    return Model(pixels, logits(x, classes), name="xray-cnn5")


def covid_cnn4(shape: tuple[int, int, int], classes: int) -> Any:
    """Four convolutions of 3 x 3 with dropout, and two dense layers: 5,723,457 parameters at 224 x 224 x 3.

    After the published description (layers, counts, training and figures); where it was published first could
    not be traced. A twin with 64 filters in the second convolution and 5,668,097 parameters is widespread
    in tutorials of 2020.
    """
    from keras import Model, layers

    pixels, x = _scaled(shape)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    for filters in (128, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D()(x)
        x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return Model(pixels, logits(x, classes), name="covid-cnn4")


def pneumonia_cnn1(shape: tuple[int, int, int], classes: int) -> Any:
    """One convolution of 3 x 3 with pooling, and two dense layers: 3,937,409 parameters at 64 x 64 x 3.

    After the published description (layers, counts, training and figures); where it was published first could
    not be traced.
    """
    from keras import Model, layers

    pixels, x = _scaled(shape)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return Model(pixels, logits(x, classes), name="pneumonia-cnn1")


def ct_cnn3(shape: tuple[int, int, int], classes: int) -> Any:
    """Three blocks of convolution, batch norm and pooling, then Flatten, Dense, Dropout, Dense; for CT slices.

    After the published description, which gives the blocks and their first 32 filters, but no sizes. Chosen
    here: 128 x 128 x 1, 3 x 3 kernels with ReLU and padding, 32, 64 and 128 filters, 128 dense units,
    dropout 0.5.
    """
    from keras import Model, layers

    pixels, x = _scaled(shape)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return Model(pixels, logits(x, classes), name="ct-cnn3")


def alexnet_gray(shape: tuple[int, int, int], classes: int) -> Any:
    """Five convolutions and three dense layers after AlexNet, for greyscale.

    Krizhevsky, Sutskever and Hinton 2012, https://doi.org/10.1145/3065386, section 3.5: kernels, strides,
    filters and overlapping pooling are theirs. The greyscale system built on it gives its source size,
    1400 x 1400, but no sizes of layers. Chosen here: 224 x 224 x 1; one tower; no response normalization,
    which device runtimes lack; 1,024 dense units instead of 4,096, for two classes instead of 1,000.
    Maps larger than AlexNet's last 6 x 6 are averaged down towards it, so that other sizes train, too: at
    1400 pixels the first dense layer alone would otherwise have 462 million weights.
    """
    from keras import Model, layers

    def conv(x: Any, filters: int, kernel: int, strides: int = 1) -> Any:
        return layers.Conv2D(
            filters,
            kernel,
            strides,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
        )(x)

    pixels, x = _scaled(shape)
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
    return Model(pixels, logits(x, classes), name="alexnet-gray")


def _scaled(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """The input, pixels 0 to 255, and the same scaled to 0..1."""
    from keras import Input, layers

    pixels = Input(shape, name="image")
    return pixels, layers.Rescaling(1 / 255)(pixels)
