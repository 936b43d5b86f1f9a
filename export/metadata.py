"""Writes standard TFLite metadata, with which MediaPipe Tasks and other programs open a model.

The metadata is a second flatbuffer, stored in a buffer of the model. Its tables and field numbers
follow metadata_schema.fbs:
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs.
It is written field by field, because the generated classes come only with all of MediaPipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np

NAME = "TFLITE_METADATA"  # of the model's metadata entry
LABELS = "labels.txt"  # the associated file, in the zip appended to the model
_IDENTIFIER = b"M001"
_PARSER = "1.0.0"  # the oldest parser that reads every field written here
# Enumerations and members of unions, as in the schema.
_TENSOR_AXIS_LABELS, _RGB = 2, 1
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 1, 2, 1


def classifier_metadata(name: str, description: str) -> bytes:
    """Returns the metadata of a classifier: an RGB image uint8 to one probability per class.

    The file `LABELS` names the classes.

    Args:
      name: Of the model.
      description: Of the model, for people.
    """
    builder = flatbuffers.Builder()
    image = _table(
        builder, {0: _text(builder, "image"), 1: _text(builder, "RGB, 0 to 255"), **_image(builder)}
    )
    classes = _table(
        builder,
        {0: _text(builder, "probability"), 1: _text(builder, "of each class"), **_axis(builder)},
    )
    graph = _table(builder, {2: _vector(builder, [image]), 3: _vector(builder, [classes])})
    texts = {0: _text(builder, name), 1: _text(builder, description), 7: _text(builder, _PARSER)}
    builder.Finish(
        _table(builder, {**texts, 3: _vector(builder, [graph])}), file_identifier=_IDENTIFIER
    )
    return bytes(builder.Output())


def _image(builder: flatbuffers.Builder) -> dict[int, int]:
    """Returns content, process units and statistics of TensorMetadata: unchanged pixels."""
    properties = _table(builder, {}, {0: _RGB})
    content = _table(builder, {1: properties}, {0: _IMAGE_PROPERTIES})
    options = _table(builder, {0: _floats(builder, 0), 1: _floats(builder, 1)})  # mean, std
    unit = _table(builder, {1: options}, {0: _NORMALIZATION_OPTIONS})
    stats = _table(builder, {0: _floats(builder, 255), 1: _floats(builder, 0)})  # max, min
    return {3: content, 4: _vector(builder, [unit]), 5: stats}


def _axis(builder: flatbuffers.Builder) -> dict[int, int]:
    """Returns content, statistics and associated files of TensorMetadata: one label per class."""
    content = _table(builder, {1: _table(builder, {})}, {0: _FEATURE_PROPERTIES})
    stats = _table(builder, {0: _floats(builder, 1), 1: _floats(builder, 0)})
    texts = {0: _text(builder, LABELS), 1: _text(builder, "one label a line, in class order")}
    labels = _table(builder, texts, {2: _TENSOR_AXIS_LABELS})
    return {3: content, 5: stats, 6: _vector(builder, [labels])}


def _table(
    builder: flatbuffers.Builder, places: Mapping[int, int], bytes_: Mapping[int, int] | None = None
) -> int:
    """Writes a table; fields by number are places of earlier objects (`places`) or single bytes."""
    small = bytes_ or {}
    builder.StartObject(max([*places, *small, -1]) + 1)
    for slot, place in places.items():
        builder.PrependUOffsetTRelativeSlot(slot, place, 0)
    for slot, value in small.items():
        builder.PrependUint8Slot(slot, value, 0)
    return builder.EndObject()


def _text(builder: flatbuffers.Builder, text: str) -> int:
    return builder.CreateString(text)


def _floats(builder: flatbuffers.Builder, *values: float) -> int:
    return builder.CreateNumpyVector(np.array(values, np.float32))


def _vector(builder: flatbuffers.Builder, places: Sequence[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()
