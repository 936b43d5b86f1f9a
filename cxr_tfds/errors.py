"""Errors that a user can correct. Messages say what was found, what was expected and what to do.

The commands print these errors as one message and exit with status 1. Any other exception is a
defect and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class InputError(ValueError):
    """A value, file or folder that cannot be used.

    Attributes:
      proposal: What seems to read the source instead, see
        `cxr_tfds.sources.unlabelled.Recognition`; None if nothing does.
    """

    proposal: Any = None


def first_line(err: BaseException) -> str:
    """Returns the first line of the message of an error, or its class if it has none."""
    return next(iter(str(err).splitlines()), "").rstrip(". ") or type(err).__name__


class MissingData(InputError, FileNotFoundError):
    """A dataset, run folder or source folder that does not exist where it was expected."""


class Undecided(InputError):
    """A question that only the owner of the source can answer, with a setting.

    Attributes:
      setting: Name of the setting that answers it.
      choices: Its possible values.
    """

    def __init__(self, message: str, setting: str, choices: Sequence[str]) -> None:
        super().__init__(message)
        self.setting = setting
        self.choices = tuple(choices)


class BadImage(InputError):
    """A file that does not contain a usable radiograph.

    Attributes:
      reason: What is wrong with the file, without its name.
      path: Name of the file, or None if the bytes have no name.
    """

    def __init__(self, reason: str, path: str | None = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"
