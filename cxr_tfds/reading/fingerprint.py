"""The fingerprint of a dataset: what its records, class names and settings were when it was built.

`fingerprint.json` next to the shards holds the `content` that makes up the fingerprint, which is
its SHA-256; the digests of `shards`, which may be cut differently; and the `description` of the
source. `fingerprint.sig` is the signature of that file. Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from cxr_tfds.errors import InputError
from cxr_tfds.files import complete_file, write_json
from cxr_tfds.schema import Count, Text, read_json
from cxr_tfds.signing import check_signature, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE, SIGNATURE = "fingerprint.json", "fingerprint.sig"
LABEL_FIELDS = ("label", "finding", "states")
_VERSION = 2  # the first one covered the records only and had no file
_SETTINGS = (
    "fit", "several_findings", "bits", "window", "percentile", "grey_range"
)  # fmt: skip
_DESCRIPTION = ("reader", "origin", "max_examples_per_split")


class SplitContent(TypedDict):
    """What `fingerprint.json` holds of a split, see `SplitDigests`."""

    images: Count
    records: Text
    label: Text
    finding: Text
    states: Text


class Content(TypedDict):
    """What makes up the fingerprint."""

    settings: dict[str, Any]  # see `describe_settings`
    splits: dict[str, SplitContent]


class Fingerprint(TypedDict):
    """The content of `fingerprint.json`."""

    content: Content
    shards: dict[str, list[str]]  # see `SplitDigests`
    description: dict[str, Any]  # of the source


class SplitDigests(NamedTuple):
    """SHA-256 digests of a split, whose examples are in stored order."""

    images: int
    records: str  # of every field of every example
    labels: dict[str, str]  # of each of `LABEL_FIELDS`
    shards: list[str]  # of the records up to the end of each shard
    offsets: Any  # no digest: positions of the images, see `cxr_tfds.reading.offsets`

    def content(self) -> dict[str, Any]:
        """Returns the part that does not depend on how the split is cut into shards."""
        return {"images": self.images, "records": self.records, **self.labels}


def label_bytes(values: Any) -> bytes:
    """Returns what is digested of the class numbers (N,), or of the states (N, K)."""
    import numpy as np  # slow to import

    return np.asarray(values, "<i8").tobytes()


def describe_settings(
    labels: Any, findings: Any, shape: Any, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the settings that change what a model learns from the records."""
    stored = {name: metadata.get(name) for name in _SETTINGS}
    stored["several_findings"] = bool(stored["several_findings"])
    return {"labels": [*labels], "findings": [*findings], "shape": [*shape], **stored}


def write_fingerprint(
    folder: Path,
    splits: Mapping[str, SplitDigests],
    settings: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes `fingerprint.json` and the positions of the images.

    Returns:
      The metadata that belongs to the fingerprint.
    """
    from cxr_tfds.reading.offsets import write_offsets  # slow to import

    content = {
        "settings": settings,
        "splits": {name: digests.content() for name, digests in splits.items()},
    }
    document = {
        "content": content,
        "shards": {name: digests.shards for name, digests in splits.items()},
        "description": {name: metadata.get(name) for name in _DESCRIPTION},
    }
    write_json(folder / FILE, document)
    for name, digests in splits.items():
        write_offsets(folder, name, digests.offsets)
    return {"fingerprint": _digest(content), "fingerprint_version": _VERSION}


def check_fingerprint(
    folder: Path,
    images: Mapping[str, int],
    settings: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> Fingerprint | None:
    """Compares what a dataset describes, without its records, with its `fingerprint.json`.

    Args:
      folder: Of the shards.
      images: Number of images in each split.
      settings: See `describe_settings`.
      metadata: What TFDS stores as metadata.json.

    Returns:
      The content of the file; None if an earlier version built the dataset without one.

    Raises:
      FileNotFoundError: The file is missing.
      InputError: It is corrupt, or a class name, a setting or the size of a split was changed.
    """
    if metadata.get("fingerprint_version", 1) == 1 and not (folder / FILE).exists():
        return None
    recorded = read_json(folder / FILE, Fingerprint, "Copy the dataset again.")
    content = recorded["content"]
    built = {split: digests["images"] for split, digests in content["splits"].items()}
    description = {name: metadata.get(name) for name in _DESCRIPTION}
    changes = [
        *_compare(content["settings"], settings),
        *_compare(built, images, "images in "),
        *_compare(recorded["description"], description),
    ]
    if _digest(content) != metadata["fingerprint"]:
        changes.append(f"fingerprint of {FILE} and metadata.json")
    if changes:
        raise InputError(f"It was changed after it was built: {'; '.join(changes)}.")
    return recorded


def earlier_fingerprint(recorded: Fingerprint) -> str:
    """Returns what the first version of the fingerprint would be: of the records only."""
    splits = recorded["content"]["splits"]
    return digest_records({split: digests["records"] for split, digests in splits.items()})


def digest_records(records: Mapping[str, str]) -> str:
    """Returns the first version of the fingerprint for the digests of the records by split."""
    text = "".join(f"{split} {digest} " for split, digest in records.items())
    return hashlib.sha256(text.encode()).hexdigest()


def sign_fingerprint(folder: Path, key: Ed25519PrivateKey) -> Path:
    """Writes the signature of `fingerprint.json`; returns its path."""
    line = sign((folder / FILE).read_bytes(), "dataset", key)
    with complete_file(folder / SIGNATURE) as temporary:
        temporary.write_bytes(line + b"\n")
    return folder / SIGNATURE


def check_trust(folder: Path, recorded: Fingerprint | None, trust: str | PathLike[str]) -> str:
    """Checks the signature of `fingerprint.json`.

    Args:
      folder: Of the shards.
      recorded: The content of the file, as `check_fingerprint` returned it.
      trust: File of the public key.

    Returns:
      The id of the key.

    Raises:
      MissingData: The file of the public key does not exist.
      InputError: The dataset is not signed, or was signed with another key or changed since.
    """
    files = (folder / FILE, folder / SIGNATURE)
    content, line = (path.read_bytes() if path.is_file() else b"" for path in files)
    key = check_signature(content, line.removesuffix(b"\n"), "dataset", trust, str(folder))
    if json.loads(content) != recorded:
        raise InputError(f"{folder / FILE} was changed while it was read. Start again.")
    return key


def _compare(built: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns what differs, in words."""
    found = json.loads(json.dumps(found))
    return [
        f"{prefix}{name}: {_show(found.get(name))} instead of {_show(built.get(name))}"
        for name in sorted(built.keys() | found.keys())
        if built.get(name) != found.get(name)
    ]


def _show(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else repr(value)


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
