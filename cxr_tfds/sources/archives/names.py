"""Decodes file names of archives that do not state their encoding."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

_log = logging.getLogger(__name__)


def decode_names(archive: Path, names: Sequence[bytes]) -> list[str] | None:
    """Returns the text of names in an unknown encoding, or None if no encoding fits all of them.

    Archives made on Windows hold names in the code page of the machine. The encoding that fits is
    the first one that decodes all names to plausible text, and is logged.

    Args:
      archive: For the log message.
      names: Names that are not ASCII.
    """
    for encoding, is_plausible in _ENCODINGS:
        try:
            texts = [name.decode(encoding) for name in names]
        except UnicodeDecodeError:
            continue
        if all(map(is_plausible, texts)):
            if texts:
                _log.info("File names in %s are read as %s: %s.", archive, encoding, texts[0])
            return texts
    return None


def _is_western(text: str) -> bool:
    """Returns whether the letters outside ASCII are Latin and a minority in each word.

    The code pages for Western languages decode any bytes. Chinese becomes box-drawing characters
    or words of accented letters only.
    """
    return (
        text.isprintable()
        and all(
            "LATIN" in unicodedata.name(letter, "") and letter not in "ƒªº"
            for letter in re.findall(r"[^\x00-\x7f]", text)
        )
        and all(
            2 * sum(letter > "\x7f" for letter in word) <= len(word)
            for word in re.findall(r"[^\W\d_]+", text)
        )
    )


def _is_full_width(text: str) -> bool:
    """Returns whether a text lacks half-width katakana, to which Shift-JIS decodes Chinese."""
    return text.isprintable() and not re.search("[\uff61-\uff9f]", text)


_ENCODINGS: Sequence[tuple[str, Callable[[str], bool]]] = (
    ("utf-8", str.isprintable),
    ("cp437", _is_western),
    ("cp1252", _is_western),
    # The common part of GBK goes first: Shift-JIS text does not fit it, but fits GBK.
    ("gb2312", str.isprintable),
    ("cp932", _is_full_width),  # Shift-JIS of Windows
    ("gbk", str.isprintable),
)
