"""Describes what is stored in a model file, for `cxr-infer info`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.sources.origin import describe_origin

from .interpreter_code import write_code
from .model_info import ModelInfo
from .operating_point import format_points
from .output import format_fields
from .runtime import load

_CODE_TITLE = "Python that runs the file without cxr-tfds, on an upright image of 8 bits:"


def describe_file(model: Path, flatbuffer: bytes, info: ModelInfo) -> dict[str, Any]:
    """Returns the model info, the name and size of the file, and Python that runs it."""
    origin = describe_origin(info.dataset.get("origin"))
    fields = {"file": str(model), "bytes": model.stat().st_size, **dataclasses.asdict(info)}
    fields["dataset"] = {**info.dataset, "origin": origin}
    try:
        with suppress_native_stderr():
            code = write_code(model, info, load(flatbuffer))
    except InputError as err:  # no runtime, or none that can load the model
        code = f"# {err}\n"
    return {**fields, "python": code}


def format_description(description: dict[str, Any], info: ModelInfo) -> str:
    """Returns a description as text, with a table of the operating points."""
    left_out = ("python", "operating_points", "reliability")  # code and a table follow
    fields = {name: value for name, value in description.items() if name not in left_out}
    code = description["python"]
    if info.threshold is not None:
        fields["threshold"] = _by_class(info, info.threshold)
    if isinstance(info.temperature, tuple):
        fields["temperature"] = _by_class(info, info.temperature)
    points = format_points(info)
    parts = [
        format_fields(_without_unset(fields)),
        *([points] if points else []),
        f"# {_CODE_TITLE}\n{code}",
    ]
    return "\n\n".join(parts)


def _by_class(info: ModelInfo, numbers: Any) -> dict[str, float]:
    """Returns the number of each finding, or of the positive class."""
    values = numbers if isinstance(numbers, tuple) else (numbers,)
    return dict(zip(info.labels[-len(values) :], values, strict=True))


def _without_unset(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that have a value."""
    kept = {
        name: _without_unset(value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    return {name: value for name, value in kept.items() if value not in (None, {}, ())}
