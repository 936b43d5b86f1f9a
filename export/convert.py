"""Keras model to flatbuffer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cxr_tfds.cli import native_stderr_closed

from .edge.runtime import INPUT, OUTPUT, SIGNATURE


def to_tflite(model: Any, quantization: str, calibration: Iterable[np.ndarray]) -> bytes:
    """Converts `model` to TFLite, one image at a time, logits out, addressed by signature.

    Args:
      model: Keras, pixels (N, S, S, C) to logits, weights float32. A model trained in mixed
        precision does not convert and must be rebuilt in float32 first, as `cxr-train` does.
      quantization: "float32", or "int8": weights per channel, activations, input and output int8.
      calibration: uint8 (S, S, C) images, whose activations set the int8 ranges; unused for float32.

    Returns:
      The flatbuffer, without anything appended.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        SIGNATURE,
        lambda image: {OUTPUT: model(image, training=False)},
        input_signature=[tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name=INPUT)],
    )
    with tempfile.TemporaryDirectory() as folder:
        # A SavedModel, because only its signatures keep their names through the converter.
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if quantization == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[np.newaxis].astype(np.float32)] for image in calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        with native_stderr_closed():
            return converter.convert()
