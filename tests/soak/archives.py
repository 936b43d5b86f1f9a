"""Corrupt and hostile zips of radiographs, counted by `cxr-data summary`."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from helpers.corruptions import corrupt, replace_number, truncate

from .stage import Stage
from .trial import Kind, Outcome, draw

_KINDS = ("data", "bytes", "end", "truncated", "hostile")
_OUTSIDE = "outside.jpeg"
_HOSTILE = (f"../../{_OUTSIDE}", f"/tmp/{_OUTSIDE}", "a\\..\\b.jpeg", "x" * 300 + ".jpeg", "\0.png")


@cache
def _zip(source: Path) -> tuple[bytes, list[tuple[int, int]]]:
    """Returns a zip of the images, and where the content of each begins and ends."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(source.rglob("*.jpeg")):
            archive.write(path, path.relative_to(source.parent))
        places = [
            (entry.header_offset + 30 + len(entry.filename), entry.file_size)
            for entry in archive.infolist()
        ]
    return buffer.getvalue(), [(start, start + size) for start, size in places]


def _change(source: Path, kind: str, rng: np.random.Generator) -> bytes:
    content, places = _zip(source)
    if kind == "data":  # zips have a checksum of each content, but none of their directory
        start, end = places[rng.integers(len(places))]
        changed = bytearray(content)
        changed[rng.integers(start, end)] ^= 1 << rng.integers(8)
        return bytes(changed)
    if kind == "end":
        tail = max(places[-1][1], len(content) - 400)
        return content[:tail] + replace_number(content[tail:], rng)
    if kind == "hostile":
        return _add_hostile(content, rng)
    return (corrupt if kind == "bytes" else truncate)(content, rng)


def _add_hostile(content: bytes, rng: np.random.Generator) -> bytes:
    """Adds an entry that leads out, a link, or one that expands to 200 MB."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        entry = zipfile.ZipInfo(_HOSTILE[rng.integers(len(_HOSTILE))])
        entry.compress_type = zipfile.ZIP_DEFLATED
        data: bytes = b"x"
        if (kind := rng.integers(3)) == 1:
            entry.filename = "chest_xray/test/NORMAL/link.jpeg"
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            data = b"/etc/passwd"
        elif kind == 2:
            entry.filename = "chest_xray/test/NORMAL/bomb.jpeg"
            data = bytes(200_000_000)
        archive.writestr(entry, data)
    return buffer.getvalue()


def _run(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    outcomes = []
    for number in numbers:
        kind = _KINDS[number % len(_KINDS)]
        path = folder / f"{number}-{kind}.zip"
        path.write_bytes(_change(stage.source, kind, draw(stage.seed, "zips", number)))
        done = stage.commands.fork("cxr-data", "summary", path, "--json").wait()
        problem = done.problem
        if not problem and done.code not in (0, 1):
            problem = f"exit code {done.code}"
        if not problem and not done.code and kind == "data":
            problem = _check_counts(json.loads(done.stdout), len(_zip(stage.source)[1]))
        if any(Path(place, _OUTSIDE).exists() for place in (folder, folder.parent, "/tmp")):
            problem = "a file outside of the zip's folder was written"
        answer = "refused" if done.code else "counted"
        outcomes.append(Outcome(number, answer, f"{path.name}: {problem}" if problem else ""))
    return outcomes


def _check_counts(summary: dict, images: int) -> str:
    counted = sum(split["images"] for split in summary["splits"].values())
    if counted + len(summary["bad_images"]) == images and summary["bad_images"]:
        return ""
    return f"{counted} images and {len(summary['bad_images'])} corrupt ones of {images}"


ZIPS = Kind("zips", _run, batch=10, share=0.5)
