"""Converts a Keras model to a TFLite flatbuffer."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.text import say

from .edge.runtime import INPUT, OUTPUT, SIGNATURE
from .formats import FORMATS
from .selective import SelectiveQuantizer


class SavedModels:
    """Keeps a model as SavedModels in a folder, so that several formats trace and save it once.

    Args:
      model: Keras, pixels (N, S, S, C) to logits or to a dictionary of named outputs. All its
        layers must be float32: a mixed-precision policy does not convert.
      folder: An empty folder for the files.
    """

    def __init__(self, model: Any, folder: str | Path) -> None:
        self.model = model
        self._folder = Path(folder)

    def path(self, pixel_type: Any) -> str:
        """Returns the folder of the SavedModel that takes one image of this dtype."""
        path = self._folder / pixel_type.name
        if not path.exists():
            _archive(self.model, pixel_type).write_out(str(path), verbose=False)
        return str(path)


def convert_each(
    model: Any,
    formats: Sequence[str],
    representative: Sequence[np.ndarray] | np.ndarray,
    keep_float: Sequence[str] = (),
    *,
    rgb: bool = False,
) -> dict[str, bytes]:
    """Returns a Keras model as a flatbuffer of each format, see `convert`."""
    flatbuffers = {}
    with tempfile.TemporaryDirectory() as folder:
        saved = SavedModels(model, folder)
        for name in formats:
            say(f"converting to {name}")
            flatbuffers[name] = convert(saved, name, representative, keep_float, rgb=rgb)
    return flatbuffers


def to_tflite(
    model: Any,
    format: str,
    representative: Sequence[np.ndarray] | np.ndarray,
    keep_float: Sequence[str] = (),
    *,
    rgb: bool = False,
) -> bytes:
    """Returns a Keras model as a flatbuffer, see `convert`."""
    with tempfile.TemporaryDirectory() as folder:
        return convert(SavedModels(model, folder), format, representative, keep_float, rgb=rgb)


def convert(
    saved: SavedModels,
    format: str,
    representative: Sequence[np.ndarray] | np.ndarray,
    keep_float: Sequence[str] = (),
    *,
    rgb: bool = False,
) -> bytes:
    """Returns the model as a flatbuffer that takes one image at a time, addressed by signature.

    Args:
      saved: The model.
      format: A key of `FORMATS`.
      representative: uint8 (S, S, C) images, whose activations set the quantization ranges.
      keep_float: Names of layers that stay float32, if the format can keep layers.
      rgb: Whether the flatbuffer takes uint8 and gives float32, as the RGB variant does.

    Raises:
      InputError: `keep_float` names a layer that does not exist or cannot stay float32.
    """
    form = FORMATS[format]
    if rgb:
        form = dataclasses.replace(form, input_type="uint8", output_type="float32")
    if keep_float and form.can_keep_float:
        float_flatbuffer = convert(saved, "float32", (), rgb=rgb)
        quantizer = SelectiveQuantizer(float_flatbuffer, saved.model.name, representative)
        return quantizer.quantize_except(keep_float, form)
    casts_pixels = form.input_type == "uint8" and not form.quantizes_activations
    # A SavedModel, because only its signatures keep their names through the converter.
    converter = tf.lite.TFLiteConverter.from_saved_model(
        saved.path(tf.uint8 if casts_pixels else tf.float32), signature_keys=[SIGNATURE]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet[form.operators]]
    # Private in TensorFlow 2.21, see `test_private_api_dense_per_channel_of_tensorflow_2_21`.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = (
        not form.dense_per_channel
    )
    if form.quantizes_weights:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.weights:
        converter.target_spec.supported_types = [tf.as_dtype(form.weights)]
    if form.quantizes_activations:
        converter.inference_input_type = tf.as_dtype(form.input_type)
        converter.inference_output_type = tf.as_dtype(form.output_type)
        converter.representative_dataset = lambda: (
            [image[np.newaxis].astype(np.float32)] for image in representative
        )
    with suppress_native_stderr():
        return converter.convert()


def _archive(model: Any, pixel_type: Any) -> Any:
    """Returns the model as an archive with one endpoint, a function of one image."""

    def serve(image: Any) -> dict[str, Any]:
        outputs = model(tf.cast(image, tf.float32), training=False)
        return outputs if isinstance(outputs, dict) else {OUTPUT: outputs}

    archive = keras.export.ExportArchive()
    archive.track(model)
    image = tf.TensorSpec((1, *model.input_shape[1:]), pixel_type, name=INPUT)
    archive.add_endpoint(SIGNATURE, serve, input_signature=[image])
    return archive
