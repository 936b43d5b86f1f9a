"""Where the images of a source come from, as a README next to them describes it.

A README is Markdown or text. Its keys are in front matter or in lines of their own:

    Licence: CC BY 4.0
    - **Population**: adults of one hospital

The first paragraph is the description if no key gives one. `Drawn: true` marks images that a
program drew.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.regular_files import read_content
from cxr_tfds.schema import Origin

if TYPE_CHECKING:
    from cxr_tfds.sources.archives import SourcePath
    from cxr_tfds.sources.image import SourceImage

ORIGIN_TEXTS = ("description", "licence", "population")
NOT_DESCRIBED = "not described"
DRAWN = (
    "The images are drawn by a program and show no patient. The metrics prove that the software "
    "works, nothing else."
)
_KEYS = {"license": "licence"} | {name: name for name in (*ORIGIN_TEXTS, "drawn")}
_README = re.compile(r"readme(\.md|\.txt)*", re.IGNORECASE)
_LINE = re.compile(
    r"(?:[-*] )?\**(description|licen[cs]e|population|drawn)\**\s*:\**\s*(.*)", re.IGNORECASE
)
_NOT_TEXT = ("#", "---", "===", "```", "<", "![", "- ", "* ")
_FIRST_PARAGRAPH = "first paragraph"
_MOST_BYTES = 1 << 20
_MOST_CHARACTERS = 600  # of a text: a README may be a book


def describe_origin(origin: Mapping[str, Any] | None) -> Origin:
    """Returns an origin with all its keys; a text that is missing is "not described".

    Returns:
      `{"description": str, "licence": str, "population": str, "drawn": bool}`.
    """
    origin = origin or {}
    texts: Any = {name: str(origin.get(name) or NOT_DESCRIBED) for name in ORIGIN_TEXTS}
    return texts | {"drawn": origin.get("drawn") is True}


def read_origin(source: Path, images: Sequence[SourceImage]) -> dict[str, Any]:
    """Returns what the README of a source states, see `describe_origin`; {} without a README.

    The README is in the source, or in a folder below it that holds all images.

    Args:
      source: Folder or archive.
      images: Its images, sorted by id.
    """
    # Slow to import: NumPy.
    from cxr_tfds.sources.opening import open_source
    from cxr_tfds.sources.walking import find_problem_of

    images = [image for image in images if find_problem_of(image.path) is None]
    if not images:
        return {}
    folder = open_source(source, "")[0 if isinstance(images[0].path, Path) else -1]
    inner_paths = [str(image.path)[len(str(folder)) + 1 :] for image in (images[0], images[-1])]
    found = {}
    for part in ("", *Path(os.path.commonpath(inner_paths)).parts):
        # The name of an archive is a part of the path, but not a folder.
        if part and not (folder / part).is_dir():
            continue
        folder = folder / part if part else folder
        if text := _read_readme(folder, source):
            found = parse_readme(text)
    return found


def _read_readme(folder: SourcePath, source: Path) -> str:
    from cxr_tfds.sources.paths import leads_out, list_children

    with contextlib.suppress(OSError, BadImage, InputError):  # not worth a failed build
        for path in list_children(folder):
            is_outside = isinstance(path, Path) and leads_out(path, source)
            if _README.fullmatch(path.name) and path.is_file() and not is_outside:
                return read_content(path)[:_MOST_BYTES].decode("utf-8", errors="replace")
    return ""


def parse_readme(text: str) -> dict[str, Any]:
    """Returns the texts and the mark `drawn` of a README, those that it has."""
    found: dict[str, Any] = {}
    key = ""  # what the next line continues
    lines = text.lstrip("\ufeff").strip().splitlines()
    in_front_matter = lines[:1] == ["---"]
    for line in lines[in_front_matter:]:
        content = line.strip()
        if match := _LINE.fullmatch(content):
            key = _KEYS[match[1].casefold()]
            found[key] = match[2]
        elif not content or in_front_matter or content.startswith(_NOT_TEXT):
            key = ""
            in_front_matter = in_front_matter and content != "---"
        elif key:
            found[key] += f" {content}"
        elif _FIRST_PARAGRAPH not in found:
            key = _FIRST_PARAGRAPH
            found[key] = content
    drawn = found.pop("drawn", "").casefold() in ("true", "yes")
    first_paragraph = found.pop(_FIRST_PARAGRAPH, "")
    found["description"] = found.get("description") or first_paragraph
    found["licence"] = found.get("licence", "").rstrip(".")
    texts = {name: _shorten(text) for name, text in found.items()}
    return {name: text for name, text in texts.items() if text} | {"drawn": drawn}


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:_MOST_CHARACTERS].rsplit(' ', 1)[0]} …"
