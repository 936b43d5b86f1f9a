"""What travels inside a `.tflite`: a zip behind the flatbuffer, in the TFLite associated-files form.

The entries are stored uncompressed: `labels.txt`, one label a line in class order, `model.json`, a `Card`,
and for people `MODEL_CARD.md`. `unzip -l model.tflite` lists them, Python's `zipfile` reads them.
See https://ai.google.dev/edge/litert/models/metadata.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import struct
import sys
import zipfile
from os import PathLike
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import check_fit

from .files import content_of

FORMAT = "cxr-tfds-1"
QUANTIZATIONS = (
    "float32",
    "float16",
    "dynamic",
    "int8",
    "int8-float-io",
    "int16x8",
)  # see export/formats.py
INPUTS = ("grey", "rgb")
_CARD, _LABELS, _TEXT = "model.json", "labels.txt", "MODEL_CARD.md"
_GRID = "height and width of the heatmap, None without one"
_IDENTIFIER = b"TFL3"  # bytes 4 to 7 of every TFLite flatbuffer
_ENTRY = b"PK\x03\x04"  # starts each file in a zip
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # no clock in the file: the same model gives the same bytes
_MOST_BYTES = 2**20  # of an entry; they have a few thousand
_UNREADABLE = (
    zipfile.BadZipFile,
    struct.error,
    KeyError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
)


@dataclasses.dataclass(frozen=True)
class Card:
    """What a device must know of a model. Checks itself."""

    labels: tuple[str, ...]  # class order; of two, the second is the finding
    size: int  # S: the model takes (1, S, S, channels)
    channels: int
    fit: str  # how a radiograph becomes S x S, see `cxr_tfds.imaging.pixels.radiograph`
    threshold: (
        float | None
    )  # two classes: the finding from this probability on; None for more classes
    temperature: (
        float  # probability = sigmoid or softmax of logit / temperature; of rgb done inside
    )
    quantization: str
    runtimes: tuple[
        str, ...
    ] = ()  # that can run it, names as in `runtime.RUNTIMES`; () in files from before 2026-11
    heatmap: bool = False  # whether a second output holds the class activation map
    grid: tuple[int, int] | None = None  # its height and width, None without
    input: str = "grey"  # grey: pixels to logits; rgb: red, green and blue to probabilities, see export/rgb.py
    dataset: dict[str, Any] = dataclasses.field(default_factory=dict)
    run: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    format: str = FORMAT

    def __post_init__(self) -> None:
        """Raises:
        InputError: a field is not as described.
        """
        _check_format(self.format)
        for name in ("labels", "runtimes", "grid"):  # JSON has lists
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        _check(
            _are_labels(self.labels),
            "labels",
            self.labels,
            "two or more different names, one line each",
        )
        _check(
            _is_int(self.size) and _is_int(self.channels),
            "size, channels",
            (self.size, self.channels),
            "integers",
        )
        check_fit(self.size, self.channels, self.fit)
        if len(self.labels) == 2:
            known = _is_number(self.threshold) and 0 <= self.threshold <= 1  # type: ignore[operator]
            _check(known, "threshold", self.threshold, "0 to 1 for two classes")
        else:
            _check(
                self.threshold is None,
                "threshold",
                self.threshold,
                "None for more than two classes",
            )
        warm = _is_number(self.temperature) and self.temperature > 0
        _check(warm, "temperature", self.temperature, "a number above 0")
        _check(self.input in INPUTS, "input", self.input, " or ".join(INPUTS))
        _check(
            self.input == "grey" or self.channels == 3,
            "channels",
            self.channels,
            "3 for the input rgb",
        )
        _check(
            self.quantization in QUANTIZATIONS,
            "quantization",
            self.quantization,
            ", ".join(QUANTIZATIONS),
        )
        named = isinstance(self.runtimes, tuple) and all(
            isinstance(name, str) for name in self.runtimes
        )
        _check(named, "runtimes", self.runtimes, "names of runtimes")
        _check(_is_grid(self.grid) if self.heatmap else self.grid is None, "grid", self.grid, _GRID)
        for name in ("dataset", "run", "metrics"):
            _check(isinstance(getattr(self, name), dict), name, getattr(self, name), "a dictionary")

    @property
    def outputs(self) -> int:
        """Number of logits, 1 for two classes, else one a class; or of probabilities, one a class."""
        return 1 if len(self.labels) == 2 and self.input == "grey" else len(self.labels)


class _Entries(NamedTuple):
    """What stands in the zip."""

    labels: str
    fields: dict[str, Any]  # of the card, and the guard
    text: str | None  # the model card, which older files have not


def append_card(flatbuffer: bytes, card: Card, text: str | None = None) -> bytes:
    """The flatbuffer followed by the zip that holds `labels.txt`, `model.json` and, where given, `MODEL_CARD.md`.

    Args:
      flatbuffer: what the converter gives.
      card: for programs.
      text: the model card, Markdown.

    Raises:
      InputError: the bytes are no TFLite flatbuffer or carry a zip already, or the card holds
        something JSON cannot, or an entry is too long to be read back.
    """
    _check_identifier(flatbuffer, "The flatbuffer")
    if zipfile.is_zipfile(io.BytesIO(flatbuffer)):
        raise InputError(
            "The flatbuffer carries a zip already; give the converter's output as it came."
        )
    entries = {_LABELS: _lines(card.labels)}
    # The hash of the text stands beside that of the flatbuffer, where versions that know of no text leave it unread.
    guard = {"bytes": len(flatbuffer), "sha256": hashlib.sha256(flatbuffer).hexdigest()}
    if text is not None:
        entries[_TEXT] = text
        guard["model_card_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    try:
        fields = json.loads(json.dumps(dataclasses.asdict(card), allow_nan=False))
    except (TypeError, ValueError) as err:
        raise InputError(f"The card cannot be written as JSON: {err}.") from err
    guard["card"] = _digest(fields)
    entries[_CARD] = json.dumps({**fields, "flatbuffer": guard}, indent=2) + "\n"
    buffer = io.BytesIO(flatbuffer)
    # Mode "a" keeps what stands before the zip and counts offsets from the start of the file.
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            if len(content.encode()) > _MOST_BYTES:
                raise InputError(f"{name} would have more than {_MOST_BYTES:,} bytes. Shorten it.")
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content.encode())
    return buffer.getvalue()


def read_card(source: str | PathLike[str] | bytes) -> Card:
    """The card inside a model file, given as path or content. Raises as `read_model` does."""
    return read_model(source)[1]


def read_model(source: str | PathLike[str] | bytes) -> tuple[bytes, Card]:
    """The flatbuffer without the zip, and the card. Nothing comes back that was damaged.

    The hashes inside show damage, and labels, threshold or temperature that were edited. They are no signature:
    who writes them anew is not stopped, nor who leaves out that of the card, as older files do.

    Raises:
      MissingData: there is no such file.
      InputError: no TFLite model, one without a card, truncated, changed, or of another format.
    """
    return _whole(source)[:2]


def read_model_card(source: str | PathLike[str] | bytes) -> str:
    """The model card for people, Markdown. Raises as `read_model` does.

    Raises:
      InputError: the file has none.
    """
    text = _whole(source)[2]
    if text is None:
        raise InputError(
            f"{_named(source)} has no {_TEXT} inside. Export it again with cxr-export, from a run that has one."
        )
    return text


def _whole(source: str | PathLike[str] | bytes) -> tuple[bytes, Card, str | None]:
    """The flatbuffer, the card and the text, all as they were written. Raises as `read_model` does."""
    name = _named(source)
    data = (
        source
        if isinstance(source, bytes)
        else content_of(source, "a .tflite written by cxr-export")
    )
    _check_identifier(data, name)
    labels, fields, text = _entries(data, name)
    guard = fields.pop("flatbuffer", None)
    try:
        _check_format(fields.get("format"))
        card = Card(**fields)
    except (InputError, TypeError) as err:
        raise InputError(f"{name}: {_CARD} inside cannot be used: {err}") from err
    flatbuffer = _checked(data, text, guard, name)
    if guard.get("card", digest := _digest(fields)) != digest:
        raise InputError(
            f"{name}: {_CARD} inside was changed. Copy it again, or export it again with cxr-export."
        )
    if labels != _lines(card.labels):
        raise InputError(
            f"{name}: {_LABELS} inside says {', '.join(labels.splitlines())}, "
            f"{_CARD} says {', '.join(card.labels)}. Export it again with cxr-export."
        )
    return flatbuffer, card, text


def _named(source: str | PathLike[str] | bytes) -> str:
    return "The model" if isinstance(source, bytes) else str(source)


def _lines(labels: tuple[str, ...]) -> str:
    return "".join(f"{label}\n" for label in labels)


def _check_identifier(data: bytes, name: str) -> None:
    if data[4:8] != _IDENTIFIER:
        raise InputError(
            f"{name} is no TFLite model: {len(data)} bytes, {data[4:8]!r} where {_IDENTIFIER!r} belongs. "
            "Export one with cxr-export."
        )


def _entries(data: bytes, name: str) -> _Entries:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        # The zip's directory stands last, so a cut tail takes it away; its entries may still be there.
        if _ENTRY in data and _LABELS.encode() in data:
            raise InputError(f"{name} is cut off after {len(data)} bytes. Copy it again.")
        raise InputError(
            f"{name} was written by another program or its end is missing: no labels inside. "
            "Export it with cxr-export, or copy it again."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if _CARD not in archive.namelist():
                raise InputError(
                    f"{name} was written by another program: no labels inside (no {_CARD}). Export it with cxr-export."
                )
            fields = json.loads(_stored(archive, _CARD, name))
            labels = _stored(archive, _LABELS, name).decode()
            text = _stored(archive, _TEXT, name).decode() if _TEXT in archive.namelist() else None
    except InputError:
        raise
    except _UNREADABLE as err:
        raise InputError(
            f"{name} is damaged: what it says of itself cannot be read ({err}). Copy it again."
        ) from err
    if not isinstance(fields, dict):
        raise InputError(
            f"{name}: {_CARD} inside is no JSON object. Export it again with cxr-export."
        )
    return _Entries(labels, fields, text)


def _stored(archive: zipfile.ZipFile, entry: str, name: str) -> bytes:
    """An entry as `append_card` writes it: a packed one may unpack to any size."""
    found = archive.getinfo(entry)
    if found.compress_type != zipfile.ZIP_STORED or found.file_size > _MOST_BYTES:
        raise InputError(
            f"{name}: {entry} inside is packed or has more than {_MOST_BYTES:,} bytes ({found.file_size:,}). "
            "Export it again with cxr-export."
        )
    return archive.read(found)


def _digest(fields: dict[str, Any]) -> str:
    """Hash of a card as JSON holds it."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _checked(data: bytes, text: str | None, guard: Any, name: str) -> bytes:
    """The flatbuffer, if it and the text are what was written: an interpreter may crash on any other."""
    length = guard.get("bytes") if isinstance(guard, dict) else None
    flatbuffer = data[:length] if _is_int(length) else b""
    if (
        not flatbuffer
        or hashlib.sha256(flatbuffer).hexdigest() != guard.get("sha256")
        or (None if text is None else hashlib.sha256(text.encode()).hexdigest())
        != guard.get("model_card_sha256")
    ):
        raise InputError(f"{name} is damaged: its content is not what was written. Copy it again.")
    return flatbuffer


def _check(right: bool, field: str, value: Any, expected: str) -> None:
    if not right:
        raise InputError(f"{field}={value!r}; expected {expected}.")


def _check_format(found: Any) -> None:
    """Before the other fields, which another format may name otherwise."""
    if found != FORMAT:
        raise InputError(
            f"format={found!r}; this version reads {FORMAT!r}. Install the version of cxr-tfds that wrote the model."
        )


def _are_labels(labels: Any) -> bool:
    return (
        isinstance(labels, tuple)
        and len(set(map(str, labels))) == len(labels) >= 2
        and all(
            isinstance(label, str) and label.strip() and len(label.splitlines()) == 1
            for label in labels
        )
    )


def _is_grid(grid: Any) -> bool:
    return (
        isinstance(grid, tuple)
        and len(grid) == 2
        and all(_is_int(side) and side > 0 for side in grid)
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )
