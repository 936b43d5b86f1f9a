"""How large an image file, and the memory that decodes it, may be. Standard library only.

A small file may expand to any size, so the limits are checked before a decoder gets the file.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator

from cxr_tfds.errors import BadImage, InputError

MAX_FILE_MB = "CXR_TFDS_MAX_FILE_MB"  # environment variables, in 1,000,000 bytes
MAX_IMAGE_MB = "CXR_TFDS_MAX_IMAGE_MB"
_DEFAULTS = {MAX_FILE_MB: 256, MAX_IMAGE_MB: 1000}
_MB = 1_000_000
_released = threading.Condition()
_reserved = 0  # bytes of memory for the images that threads of this process decode now


def max_file_bytes() -> int:
    """Returns the largest number of bytes that an image file may have."""
    return _read_setting(MAX_FILE_MB)


def check_file_size(size: int) -> None:
    """Raises BadImage for a file of more bytes than allowed. Call it before reading the file."""
    if size > (limit := max_file_bytes()):
        raise BadImage(
            f"a file of {_in_mb(size):,} MB; expected at most {_in_mb(limit):,} MB. If you trust "
            f"it, allow more with {MAX_FILE_MB}={_in_mb(size)}"
        )


def check_memory(width: int, height: int, bytes_per_pixel: float) -> int:
    """Returns the bytes of memory that decoding an image needs.

    Args:
      width: In pixels.
      height: In pixels.
      bytes_per_pixel: What decoding needs at its peak, with all intermediate images.

    Raises:
      BadImage: The image has no pixels, or needs more memory than allowed.
    """
    if width * height < 1:
        raise BadImage(f"{width} x {height} pixels; expected at least 1")
    needed = math.ceil(width * height * bytes_per_pixel)
    if needed > (limit := _read_setting(MAX_IMAGE_MB)):
        raise BadImage(
            f"{width} x {height} pixels, which take {_in_mb(needed):,} MB of memory to decode; "
            f"expected at most {_in_mb(limit):,} MB. If you trust the file, allow more with "
            f"{MAX_IMAGE_MB}={_in_mb(needed)}"
        )
    return needed


@contextlib.contextmanager
def reserve_memory(width: int, height: int, bytes_per_pixel: float) -> Iterator[None]:
    """Waits until all images that this process decodes need no more memory than one image may.

    Otherwise large images would take the limit once for each core. See `check_memory`.
    """
    global _reserved
    needed, limit = check_memory(width, height, bytes_per_pixel), _read_setting(MAX_IMAGE_MB)
    with _released:
        _released.wait_for(lambda: not _reserved or _reserved + needed <= limit)
        _reserved += needed
    try:
        yield
    finally:
        with _released:
            _reserved -= needed
            _released.notify_all()


def _forget_reserved() -> None:
    """Begins anew in a forked process, which has none of the threads that decode."""
    global _released, _reserved
    _released, _reserved = threading.Condition(), 0


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_reserved)


def _in_mb(size: int) -> int:
    return math.ceil(size / _MB)


def _read_setting(name: str) -> int:
    """Returns the number of bytes that an environment variable allows."""
    text = os.environ.get(name, "")
    if not text:
        return _DEFAULTS[name] * _MB
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = 0
    if not 0 < megabytes < math.inf:
        raise InputError(
            f"{name}={text!r}; expected a positive number of megabytes, such as {_DEFAULTS[name]}."
        )
    return int(megabytes * _MB)
