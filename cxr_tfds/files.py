"""Writing files and folders so that they are complete or absent. Standard library only."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError

_TEMPORARY = ".writing-"
_ABANDONED_AFTER_S = 24 * 3600.0  # a temporary file older than this has lost its writer


@contextlib.contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder and renames it to `path` if the block succeeds.

    The temporary name is unique for each writer and ends like `path`. Temporary files of killed
    writers are removed after a day.
    """
    remove_abandoned(path.parent)
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Removes temporary files that killed writers left in `folder` more than a day ago."""
    for path in folder.glob(f"{_TEMPORARY}{'[0-9a-f]' * 16}-*"):
        with contextlib.suppress(OSError):  # not ours to remove, or already removed
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink()


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as indented JSON, complete or not at all."""
    with complete_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_new_folder(folder: Path, *, overwrite: bool, resume: bool | None = None) -> None:
    """Refuses to write into a folder that is not empty, unless the caller asked for it.

    Args:
      folder: The folder to write to; it need not exist.
      overwrite: Whether existing content may be replaced.
      resume: Whether the folder holds work to continue; None if the command cannot resume.

    Raises:
      InputError: `folder` is a file, or is not empty and neither `overwrite` nor `resume` is set.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file; expected a folder to write to.")
    if overwrite or resume or not folder.exists() or not any(folder.iterdir()):
        return
    ways = "add --overwrite to replace its content" + (
        " or --resume to continue" if resume is not None else ""
    )
    raise InputError(f"{folder} exists and is not empty. Choose another folder, or {ways}.")
