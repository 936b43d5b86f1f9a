"""Keras model to flatbuffer."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cxr_tfds.native import suppress_native_stderr

from .edge.runtime import INPUT, OUTPUT, SIGNATURE
from .formats import FORMATS, Format, with_rgb
from .layers import layer_errors, quantized_except


def to_tflite(
    model: Any,
    quantization: str,
    calibration: Iterable[np.ndarray],
    keep_float: Sequence[str] = (),
    *,
    rgb: bool = False,
) -> bytes:
    """Converts `model` to TFLite, one image at a time, logits out, addressed by signature.

    Args:
      model: Keras, pixels (N, S, S, C) to logits, or to a dictionary of named outputs; weights float32.
        A model trained in mixed precision does not convert and must be rebuilt in float32 first, as
        `cxr-train` does.
      quantization: a key of `FORMATS`.
      calibration: uint8 (S, S, C) images, whose activations set the ranges of calibrated formats;
        unused for the others.
      keep_float: names of layers that stay float32, in the formats whose `selective` is true.
      rgb: whether the flatbuffer takes uint8 and gives float32 whatever the format, one of `RGB_FORMATS`;
        `model` is then what `rgb.with_grey` gives.

    Returns:
      The flatbuffer, without anything appended.

    Raises:
      InputError: `keep_float` names a layer that the model has not, or that cannot be left out.
    """
    form = with_rgb(FORMATS[quantization]) if rgb else FORMATS[quantization]
    if keep_float and form.selective:
        ranges = calibrated(model, calibration)
        errors = layer_errors(ranges, model.name, itertools.islice(calibration, 1))
        types = tf.as_dtype(form.image), tf.as_dtype(form.answer)
        return quantized_except(ranges, errors, keep_float, types)
    with _converter(model, form, calibration) as converter, suppress_native_stderr():
        return converter.convert()


def calibrated(model: Any, calibration: Iterable[np.ndarray]) -> bytes:
    """The float32 model with the ranges of its activations: what `layers` compares and quantizes in part."""
    with _converter(model, FORMATS["int8"], calibration) as converter, suppress_native_stderr():
        converter._experimental_calibrate_only = True
        return converter.convert()


@contextlib.contextmanager
def _converter(model: Any, form: Format, calibration: Iterable[np.ndarray]) -> Iterator[Any]:
    """A converter of `model` that is set to `form`."""
    with tempfile.TemporaryDirectory() as folder:
        # A SavedModel, because only its signatures keep their names through the converter.
        bytes_in = form.image == "uint8" and not form.calibrated
        _archive(model, tf.uint8 if bytes_in else tf.float32).write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet[form.operators]]
        if form.calibrated:
            converter.inference_input_type = tf.as_dtype(form.image)
            converter.inference_output_type = tf.as_dtype(form.answer)
        converter._experimental_disable_per_channel_quantization_for_dense_layers = (
            not form.dense_per_channel
        )
        if form.optimized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form.weights:
            converter.target_spec.supported_types = [tf.as_dtype(form.weights)]
        if form.calibrated:
            # The input takes the range of these images: see `calibration.calibration_images`.
            converter.representative_dataset = lambda: (
                [image[np.newaxis].astype(np.float32)] for image in calibration
            )
        yield converter


def _archive(model: Any, pixels: Any) -> Any:
    """The model as one function of an image whose pixels have that type."""

    def serve(image: Any) -> dict[str, Any]:
        answer = model(tf.cast(image, tf.float32), training=False)
        return answer if isinstance(answer, dict) else {OUTPUT: answer}

    archive = keras.export.ExportArchive()
    archive.track(model)
    image = tf.TensorSpec((1, *model.input_shape[1:]), pixels, name=INPUT)
    archive.add_endpoint(SIGNATURE, serve, input_signature=[image])
    return archive
