"""Packs a TFLite model, given as objects of the schema, into a flatbuffer."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_ALIGNMENT = 16  # `force_align: 16` of the schema, which Python's generated classes leave out


class _AlignedBuffer(schema.BufferT):
    """A buffer whose content is aligned as the schema demands."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802, overrides the schema's
        place = None
        if self.data is not None:
            content = bytes(self.data)
            builder.StartVector(1, len(content), _ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            place = builder.EndVector()
        schema.BufferStart(builder)
        if place is not None:
            schema.BufferAddData(builder, place)
        return schema.BufferEnd(builder)


def add_buffer(model: Any, content: bytes) -> int:
    """Appends a buffer with this content to the model and returns its number."""
    model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    return len(model.buffers) - 1


def pack(model: Any) -> bytes:
    """Returns the flatbuffer of a `schema.ModelT`, with its weights inside and aligned."""
    model.buffers = [_AlignedBuffer(data=buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
