"""Content of files by name. Not by `Path`: that of Python 3.12 keeps every name, so memory grows with a folder."""

from __future__ import annotations

from os import PathLike

from cxr_tfds.errors import InputError, MissingData


def content(name: str | PathLike[str]) -> bytes:
    """Raises:
    OSError: there is none, or it cannot be read.
    """
    with open(name, "rb") as file:  # noqa: PTH123
        return file.read()


def content_of(name: str | PathLike[str], expected: str) -> bytes:
    """The content of a file that a user named.

    Raises:
      MissingData: there is none.
      InputError: it cannot be read.
    """
    try:
        return content(name)
    except FileNotFoundError as err:
        raise MissingData(f"{name} does not exist; expected {expected}.") from err
    except OSError as err:
        raise InputError(f"{name} cannot be read: {err.strerror or err}.") from err
