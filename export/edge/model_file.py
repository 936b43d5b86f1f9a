"""Reads and writes what travels inside a `.tflite`: a zip after the flatbuffer.

This is the associated-files form of TFLite, which Python's `zipfile` and `unzip -l` read. The
entries are stored uncompressed: `labels.txt` (a label a line, in class order), `model.json` (the
`ModelInfo`) and, for people, `MODEL_CARD.md`. `model.json` also holds SHA-256 digests of the
flatbuffer, of the model card and of itself: an interpreter may crash on corrupt bytes, so no
interpreter gets a flatbuffer before its digest is checked. Digests detect corruption, not forgery.
See https://ai.google.dev/edge/litert/models/metadata.

A signature, which detects forgery, is the comment of the zip: the last bytes of the file. It covers
every byte before it, the directory of the zip included, and programs that do not know it ignore it.
A file of its own would be lost when a model is copied. An entry of the zip would be followed by the
directory, which the signature could not cover.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import struct
import zipfile
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.schema import fit_schema, parse_json
from cxr_tfds.signing import SIGNATURE_BYTES, TRUST, check_signature, sign
from cxr_tfds.text import to_json

from .input_files import read_named_file
from .model_info import FORMAT, ModelInfo

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_INFO, _LABELS, _CARD = "model.json", "labels.txt", "MODEL_CARD.md"
_IDENTIFIER = b"TFL3"  # bytes 4 to 7 of every TFLite flatbuffer
_ENTRY = b"PK\x03\x04"  # starts each entry of a zip
_END = b"PK\x05\x06"  # starts the last record of a zip, which ends with the length of the comment
_END_BYTES = 22  # without the comment
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a fixed date: the same model gives the same bytes
_MAX_ENTRY_BYTES = 2**20  # entries have a few thousand
_ADVICE = "Copy the file again, or export it again with cxr-export."


class ModelFile(NamedTuple):
    """The contents of a model file."""

    flatbuffer: bytes  # without the zip
    info: ModelInfo
    card: str | None  # the model card in Markdown, for people


def append_model_info(
    flatbuffer: bytes,
    info: ModelInfo,
    card: str | None = None,
    key: Ed25519PrivateKey | None = None,
) -> bytes:
    """Returns a model file: the flatbuffer followed by the zip, signed if there is a key."""
    fields = json.loads(to_json(dataclasses.asdict(info)))
    digests = {
        "bytes": len(flatbuffer),
        "sha256": _digest(flatbuffer),
        "card": _digest_fields(fields),  # of model.json; the key keeps its name for older readers
    }
    entries = {_LABELS: _join(info.labels)}
    if card is not None:
        entries[_CARD] = card
        digests["model_card_sha256"] = _digest(card.encode())
    entries[_INFO] = to_json({**fields, "flatbuffer": digests}, indent=2) + "\n"
    buffer = io.BytesIO(flatbuffer)
    # Mode "a" keeps the bytes before the zip and counts offsets from the start of the file.
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            if len(content.encode()) > _MAX_ENTRY_BYTES:
                raise InputError(f"{name} has more than {_MAX_ENTRY_BYTES:,} bytes. Shorten it.")
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content.encode())
    return buffer.getvalue() if key is None else sign_model(buffer.getvalue(), key)


def sign_model(data: bytes, key: Ed25519PrivateKey) -> bytes:
    """Returns the model file `data` with a signature at its end.

    Raises:
      InputError: It does not end like an unsigned model file.
    """
    end = data[-_END_BYTES:]
    if not end.startswith(_END) or end[-2:] != bytes(2):
        raise InputError("The model does not end with a zip, or is already signed.")
    content = data[:-2] + struct.pack("<H", SIGNATURE_BYTES)
    return content + sign(content, "model", key)


def read_model(
    source: str | PathLike[str] | bytes, trust: str | PathLike[str] | None = None
) -> ModelFile:
    """Returns the parts of a model file, given as path or contents, after a check of all digests.

    Args:
      source: The file, or its contents.
      trust: File of the public key that must have signed the model. None takes the environment
        variable CXR_TFDS_TRUST; without it, unsigned models are accepted.

    Raises:
      MissingData: The file does not exist.
      InputError: The file is not a TFLite model, has no model info, is corrupt or truncated, has
        another format, or is not signed by `trust`.
    """
    if isinstance(source, bytes):
        data, name = source, "The model"
    else:
        data, name = read_named_file(source, "a .tflite written by cxr-export"), str(source)
    if trust := trust or os.environ.get(TRUST):
        content, line = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
        check_signature(content, line, "model", trust, name)
    if data[4:8] != _IDENTIFIER:
        raise InputError(
            f"{name} is not a TFLite model: {len(data)} bytes, {data[4:8]!r} instead of "
            f"{_IDENTIFIER!r} at byte 4. Export one with cxr-export."
        )
    labels, fields, card = _read_entries(data, name)
    digests = fields.pop("flatbuffer", None)
    if fields.get("format") != FORMAT:
        raise InputError(
            f"{name} contains an invalid {_INFO}: format={fields.get('format')!r}; this version "
            f"reads {FORMAT!r}. Install the version of cxr-tfds that wrote the model."
        )
    info = fit_schema(fields, ModelInfo, f"{name}: {_INFO}", _ADVICE)
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
            fields = parse_json(
                _read_stored(archive, _INFO, name), dict[str, Any], f"{name}: {_INFO}", _ADVICE
            )
            labels = _read_stored(archive, _LABELS, name).decode()
            has_card = _CARD in archive.namelist()
            card = _read_stored(archive, _CARD, name).decode() if has_card else None
    except InputError:
        raise
    except Exception as err:  # zipfile raises many kinds
        raise InputError(f"{name} is corrupt: unreadable zip ({err}). Copy it again.") from err
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
