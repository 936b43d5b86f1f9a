"""Reads and writes what travels inside a `.tflite`: a zip after the flatbuffer.

This is the associated-files form of TFLite, which Python's `zipfile` and `unzip -l` read. The
entries are stored uncompressed: `labels.txt` (a label a line, in class order), `model.json` (the
`ModelInfo`) and, for people, `MODEL_CARD.md`. `model.json` also holds SHA-256 digests of the
flatbuffer, of the model card and of itself: an interpreter may crash on corrupt bytes, so no
interpreter gets a flatbuffer before its digest is checked. Digests detect corruption, not forgery.
See https://ai.google.dev/edge/litert/models/metadata.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import struct
import zipfile
from os import PathLike
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import check_fit

from .input_files import read_named_file

_FORMAT = "cxr-tfds-1"
_INFO, _LABELS, _CARD = "model.json", "labels.txt", "MODEL_CARD.md"
_IDENTIFIER = b"TFL3"  # bytes 4 to 7 of every TFLite flatbuffer
_ENTRY = b"PK\x03\x04"  # starts each entry of a zip
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a fixed date: the same model gives the same bytes
_MAX_ENTRY_BYTES = 2**20  # entries have a few thousand
# Of `zipfile`, and the last two of the JSON parser.
_UNREADABLE = (
    zipfile.BadZipFile, struct.error, KeyError, EOFError, OSError, ValueError, RuntimeError
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a `.tflite` contains about itself as `model.json`."""

    labels: tuple[str, ...]  # class names, the second of two is positive; or names of findings
    size: int  # S; the model takes images (1, S, S, channels)
    channels: int  # 1 or 3
    fit: str  # how a radiograph becomes S x S, see `cxr_tfds.imaging.pixels.radiograph`
    # Of two classes, or of each finding: from here on the prediction is positive.
    threshold: float | tuple[float, ...] | None
    # Divides the logits, of each finding by its own; an `rgb` model has already applied it.
    temperature: float | tuple[float, ...]
    quantization: str  # name of the format
    runtimes: tuple[str, ...] = ()  # that can run the model; empty in files from before 2026-11
    heatmap: bool = False  # whether a second output holds the class activation map
    grid: tuple[int, int] | None = None  # height and width of the heatmap
    input: str = "grey"  # "grey" maps pixels to logits, "rgb" maps colour pixels to probabilities
    dataset: dict[str, Any] = dataclasses.field(default_factory=dict)  # name, version, fingerprint
    run: dict[str, Any] = dataclasses.field(default_factory=dict)  # name, model and environment
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)  # AUC and accuracy by split
    # By class or finding: validation images and positive ones in equal bins of the probability.
    reliability: dict[str, Any] = dataclasses.field(default_factory=dict)
    # By class or finding: thresholds and what they achieve on validation, see
    # `cxr_tfds.metrics.operating_points`. Empty in files from before 2026-11.
    operating_points: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Of an `rgb` model: what its graph subtracts from logit / temperature, so that a probability of
    # 0.5 is the threshold. Of each finding its own.
    shift: float | tuple[float, ...] = 0.0
    # Of the dataset, see `GreyLevels.to_metadata`.
    grey_levels: dict[str, Any] = dataclasses.field(default_factory=dict)
    # How the source of the dataset was read, see `cxr_tfds.sources.settings`.
    reader: dict[str, Any] = dataclasses.field(default_factory=dict)
    several_findings: bool = False  # whether the labels are findings that an image may combine
    unknown: str = "ignore"  # what a finding without a state in the dataset means
    format: str = _FORMAT

    def __post_init__(self) -> None:
        """Raises InputError if a field that the device uses has an impossible value."""
        for name in (
            "labels",
            "runtimes",
            "grid",
            "threshold",
            "temperature",
            "shift",
        ):  # JSON lists
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        # A class may be named like any folder.
        are_lines = all(label.strip() and len(label.splitlines()) == 1 for label in self.labels)
        least = 1 if self.several_findings else 2
        if not are_lines or len(self.labels) < least or len(set(self.labels)) < len(self.labels):
            count = "one or more" if self.several_findings else "two or more"
            raise InputError(f"labels={self.labels!r}; expected {count} names of one line.")
        check_fit(self.size, self.channels, self.fit)
        GreyLevels.from_metadata(self.grey_levels)
        if not isinstance(self.reader, dict):
            raise InputError(f"reader={self.reader!r}; expected an object.")
        if not isinstance(self.reliability, dict) or not all(
            name in self.labels and _are_counts(counts) for name, counts in self.reliability.items()
        ):
            raise InputError(
                f"reliability={self.reliability!r}; expected counts of images and positives by "
                "class."
            )
        if not isinstance(self.operating_points, dict) or not all(
            name in self.labels and isinstance(points, list) and all(map(_is_point, points))
            for name, points in self.operating_points.items()
        ):
            raise InputError(
                f"operating_points={self.operating_points!r}; expected thresholds with sensitivity "
                "and specificity by class."
            )
        if self.several_findings:
            self._check_findings()
            return
        if len(self.labels) > 2 and self.threshold is not None:
            raise InputError(
                f"threshold={self.threshold}; expected None for {len(self.labels)} classes."
            )
        if len(self.labels) == 2 and not _is_probability(self.threshold):
            raise InputError(f"threshold={self.threshold}; expected 0 to 1.")
        if not _is_temperature(self.temperature):
            raise InputError(f"temperature={self.temperature}; expected a positive number.")
        if not _is_finite(self.shift):
            raise InputError(f"shift={self.shift}; expected a number.")

    def _check_findings(self) -> None:
        count = len(self.labels)
        checks = (("threshold", _is_probability, "0 to 1"), ("temperature", _is_temperature, "> 0"))
        for name, is_valid, expected in checks:
            values = getattr(self, name)
            if (
                not isinstance(values, tuple)
                or len(values) != count
                or not all(map(is_valid, values))
            ):
                raise InputError(
                    f"{name}={values}; expected {count} numbers, {expected}, one for each finding."
                )
        shifts = self.shift if isinstance(self.shift, tuple) else (self.shift,) * count
        if len(shifts) != count or not all(map(_is_finite, shifts)):
            raise InputError(f"shift={self.shift}; expected {count} numbers.")
        if self.unknown not in ("ignore", "positive", "negative"):
            raise InputError(f"unknown={self.unknown!r}; expected ignore, positive or negative.")


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _are_counts(counts: Any) -> bool:
    """Returns whether these are `images` and at most as many `positives` in the same bins."""
    if not isinstance(counts, dict):
        return False
    images, positives = counts.get("images"), counts.get("positives")
    return (
        isinstance(images, list)
        and isinstance(positives, list)
        and 0 < len(images) == len(positives)
        and all(type(x) is int for x in [*images, *positives])
        and all(0 <= y <= x for x, y in zip(images, positives, strict=True))
    )


def _is_point(point: Any) -> bool:
    return isinstance(point, dict) and all(
        _is_probability(point.get(name)) for name in ("threshold", "sensitivity", "specificity")
    )


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_temperature(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


class ModelFile(NamedTuple):
    """The contents of a model file."""

    flatbuffer: bytes  # without the zip
    info: ModelInfo
    card: str | None  # the model card in Markdown, for people


def append_model_info(flatbuffer: bytes, info: ModelInfo, card: str | None = None) -> bytes:
    """Returns a model file: the flatbuffer followed by the zip."""
    fields = json.loads(json.dumps(dataclasses.asdict(info)))
    digests = {
        "bytes": len(flatbuffer),
        "sha256": _digest(flatbuffer),
        "card": _digest_fields(fields),  # of model.json; the key keeps its name for older readers
    }
    entries = {_LABELS: _join(info.labels)}
    if card is not None:
        entries[_CARD] = card
        digests["model_card_sha256"] = _digest(card.encode())
    entries[_INFO] = json.dumps({**fields, "flatbuffer": digests}, indent=2) + "\n"
    buffer = io.BytesIO(flatbuffer)
    # Mode "a" keeps the bytes before the zip and counts offsets from the start of the file.
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            if len(content.encode()) > _MAX_ENTRY_BYTES:
                raise InputError(f"{name} has more than {_MAX_ENTRY_BYTES:,} bytes. Shorten it.")
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content.encode())
    return buffer.getvalue()


def read_model(source: str | PathLike[str] | bytes) -> ModelFile:
    """Returns the parts of a model file, given as path or contents, after a check of all digests.

    Raises:
      MissingData: There is no such file.
      InputError: The file is not a TFLite model, has no model info, is corrupt or truncated, or has
        another format.
    """
    if isinstance(source, bytes):
        data, name = source, "The model"
    else:
        data, name = read_named_file(source, "a .tflite written by cxr-export"), str(source)
    if data[4:8] != _IDENTIFIER:
        raise InputError(
            f"{name} is not a TFLite model: {len(data)} bytes, {data[4:8]!r} instead of "
            f"{_IDENTIFIER!r} at byte 4. Export one with cxr-export."
        )
    labels, fields, card = _read_entries(data, name)
    digests = fields.pop("flatbuffer", None)
    try:
        if fields.get("format") != _FORMAT:
            raise InputError(
                f"format={fields.get('format')!r}; this version reads {_FORMAT!r}. Install the "
                "version of cxr-tfds that wrote the model."
            )
        info = ModelInfo(**fields)
    except (InputError, TypeError, AttributeError) as err:
        raise InputError(f"{name} contains an invalid {_INFO}: {err}") from err
    flatbuffer = _check_digests(data, card, digests, name)
    # Files from before 2026-11 have no digest of model.json.
    if digests.get("card", digest := _digest_fields(fields)) != digest:
        raise InputError(f"{name} contains a changed {_INFO}. Copy the file again.")
    if labels != _join(info.labels):
        raise InputError(
            f"{name} contradicts itself: {_LABELS} contains {', '.join(labels.splitlines())}, "
            f"{_INFO} contains {', '.join(info.labels)}. Export it again with cxr-export."
        )
    return ModelFile(flatbuffer, info, card)


def _join(labels: tuple[str, ...]) -> str:
    return "".join(f"{label}\n" for label in labels)


def _read_entries(data: bytes, name: str) -> tuple[str, dict[str, Any], str | None]:
    """Returns the labels, the fields of `model.json` and the model card, as stored."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        # A zip ends with its directory, so a truncated file may still have entries.
        if _ENTRY in data and _LABELS.encode() in data:
            raise InputError(f"{name} is truncated after {len(data)} bytes. Copy it again.")
        raise InputError(
            f"{name} contains no {_INFO}: another program wrote it, or its end is missing. Export "
            "it with cxr-export, or copy it again."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if _INFO not in archive.namelist():
                raise InputError(f"{name} contains no {_INFO}. Export it with cxr-export.")
            fields = json.loads(_read_stored(archive, _INFO, name))
            labels = _read_stored(archive, _LABELS, name).decode()
            has_card = _CARD in archive.namelist()
            card = _read_stored(archive, _CARD, name).decode() if has_card else None
    except InputError:
        raise
    except _UNREADABLE as err:
        raise InputError(f"{name} is corrupt: unreadable zip ({err}). Copy it again.") from err
    if not isinstance(fields, dict):
        raise InputError(f"{name} contains an invalid {_INFO}: expected an object.")
    return labels, fields, card


def _read_stored(archive: zipfile.ZipFile, entry: str, name: str) -> bytes:
    """Returns an entry that is stored uncompressed: others may expand to any size."""
    found = archive.getinfo(entry)
    if found.compress_type != zipfile.ZIP_STORED or found.file_size > _MAX_ENTRY_BYTES:
        raise InputError(
            f"{name} contains {entry} compressed or with more than {_MAX_ENTRY_BYTES:,} bytes "
            f"({found.file_size:,}). Export it again with cxr-export."
        )
    return archive.read(found)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_fields(fields: dict[str, Any]) -> str:
    return _digest(json.dumps(fields, sort_keys=True).encode())


def _check_digests(data: bytes, card: str | None, digests: Any, name: str) -> bytes:
    """Returns the flatbuffer, if it and the model card have their digests."""
    length = digests.get("bytes") if isinstance(digests, dict) else None
    flatbuffer = data[:length] if type(length) is int else b""
    if (
        not flatbuffer
        or _digest(flatbuffer) != digests.get("sha256")
        or (None if card is None else _digest(card.encode())) != digests.get("model_card_sha256")
    ):
        raise InputError(f"{name} is corrupt: its contents have changed. Copy it again.")
    return flatbuffer
