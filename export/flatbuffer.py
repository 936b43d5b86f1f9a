"""Writes flatbuffers: models of TFLite, and the standard metadata that other programs read.

The metadata, with which MediaPipe Tasks opens a model, is a flatbuffer in a buffer of the model.
Its tables and field numbers follow metadata_schema.fbs:
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs.
It is written field by field, because the generated classes come only with all of MediaPipe.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_ALIGNMENT = 16  # `force_align: 16` of the schema, which Python's generated classes leave out
METADATA = "TFLITE_METADATA"  # of the model's metadata entry
_LABELS = "labels.txt"  # the associated file, in the zip appended to the model
_PARSER = "1.0.0"  # the oldest parser that reads every field written here
# Enumerations and members of unions, as in the schema.
_TENSOR_AXIS_LABELS, _RGB = 2, 1
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 1, 2, 1


class _AlignedBuffer(schema.BufferT):
    """A buffer whose content is aligned as the schema demands."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802, overrides the schema's
        if self.data is None:
            return super().Pack(builder)
        content = bytes(self.data)
        builder.StartVector(1, len(content), _ALIGNMENT)
        builder.head -= len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        place = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, place)
        return schema.BufferEnd(builder)


def pack(model: Any) -> bytes:
    """Returns the flatbuffer of the model, with its weights inside and aligned."""
    model.buffers = [_AlignedBuffer(data=buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def classifier_metadata(name: str, description: str) -> bytes:
    """Returns the metadata of a model from an RGB image uint8 to one probability per class."""
    image = {  # TensorMetadata: name, description, content, process units, statistics
        0: "image",
        1: "RGB, 0 to 255",
        3: {0: _IMAGE_PROPERTIES, 1: {0: _RGB}},
        4: [{0: _NORMALIZATION_OPTIONS, 1: {0: _floats(0), 1: _floats(1)}}],  # mean, std
        5: {0: _floats(255), 1: _floats(0)},  # max, min
    }
    labels = {0: _LABELS, 1: "one label per line, in class order", 2: _TENSOR_AXIS_LABELS}
    classes = {  # TensorMetadata: name, description, content, statistics, associated files
        0: "probability",
        1: "of each class",
        3: {0: _FEATURE_PROPERTIES, 1: {}},
        5: {0: _floats(1), 1: _floats(0)},
        6: [labels],
    }
    model = {0: name, 1: description, 3: [{2: [image], 3: [classes]}], 7: _PARSER}
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, model), file_identifier=b"M001")
    return bytes(builder.Output())


def _floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Writes a text, floats, a list of tables or a table, and returns its place.

    Tables are dictionaries by field number, in which integers are single bytes.
    """
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        places = [_write(builder, table) for table in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    inner = {slot: _write(builder, v) for slot, v in value.items() if not isinstance(v, int)}
    builder.StartObject(max([*value, -1]) + 1)
    for slot, field in value.items():
        if slot in inner:
            builder.PrependUOffsetTRelativeSlot(slot, inner[slot], 0)
        else:
            builder.PrependUint8Slot(slot, field, 0)
    return builder.EndObject()
