"""The content of folders, without what differs between two undisturbed runs of one command."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_tfds.export.edge.model_file import read_model

# Dates, durations and paths are in these files.
_VARYING = {
    "MODEL_CARD.md", "croissant.json", "export.json", "page.html", "predictions.html", "report.html"
}  # fmt: skip
# Names that differ as well, or that only mean something while a command runs.
_UNCOMPARED = re.compile(r"(^|/)(tensorboard|downloads|\.config)/|\.cxr-tfds\.lock$")
# What an unfinished command may leave until the next one.
TEMPORARY = re.compile(
    r"(^|/)(\.writing-|incomplete\.|\.incomplete)|\.cxr-tfds\.lock$|/checkpoint/"
)
_WEIGHTS = "model.weights.h5"

Snapshot = dict[str, str]  # relative path -> digest of the content


def list_files(folder: Path) -> dict[str, Path]:
    """Returns the files below `folder` by relative path."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def digest_tree(folder: Path) -> Snapshot:
    """Returns the digest of each file."""
    return {name: _digest(path.read_bytes()) for name, path in list_files(folder).items()}


def take(folder: Path) -> Snapshot:
    """Returns what two undisturbed runs of one command have in common."""
    files = list_files(folder)
    return {
        name: _stable(path, folder) for name, path in files.items() if not _UNCOMPARED.search(name)
    }


def _stable(path: Path, folder: Path) -> str:
    if path.name in _VARYING:
        return ""
    if ".tfrecord" in path.name:
        return _digest_records(path.read_bytes())
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return _digest(archive.read(_WEIGHTS))
    return _digest(path.read_bytes().replace(bytes(folder), b"FOLDER"))


def _digest_records(content: bytes) -> str:
    """Returns the same digest for the same records, whose fields may be in another order."""
    start, counts = 0, []
    while start < len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        record = content[start + 12 : start + 12 + length]  # after a checksum of the length
        counts.append(np.bincount(np.frombuffer(record, np.uint8), minlength=256))
        start += 16 + length  # with a checksum of the record
    return f"{len(content)}:{_digest(np.array(counts).tobytes())}"


def compare(found: Snapshot, expected: Snapshot) -> list[str]:
    """Returns the differences between two snapshots."""
    return [
        *(f"{name} is missing" for name in expected.keys() - found.keys()),
        *(f"{name} remains" for name in found.keys() - expected.keys()),
        *(
            f"{name} differs"
            for name in expected.keys() & found.keys()
            if found[name] != expected[name]
        ),
    ]


def find_incomplete(folder: Path) -> list[str]:
    """Returns the published files that are not complete, with the reason."""
    problems = []
    for name, path in list_files(folder).items():
        if not TEMPORARY.search(name):
            try:
                _check(path)
            except Exception as err:  # any reason is a finding
                problems.append(f"{name} is incomplete: {type(err).__name__}: {err}")
    return problems


def _check(path: Path) -> None:
    """Raises an error if a file is not complete; other suffixes are not checked."""
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".html":
        if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
            raise ValueError("no </html>")
    elif path.suffix in (".png", ".jpg", ".jpeg"):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
    elif path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                raise ValueError(bad)
    elif path.suffix == ".tflite":
        read_model(path)
    elif path.suffix == ".csv":
        text = path.read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text)))
        if not text.endswith("\n") or len({len(row) for row in rows}) != 1:
            raise ValueError("the last row is incomplete")
    elif path.suffix == ".md" and not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("the last line is incomplete")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
