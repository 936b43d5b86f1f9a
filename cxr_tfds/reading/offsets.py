"""Where the images are in the shards, and reading them from there.

An image is one stretch of bytes of its shard. The build stores the positions of all images in the
file `SPLIT.offsets.npy` next to the shards, so that opening a dataset does not search for them.
Every position is compared with the shard before it is used. Loads no TensorFlow.
"""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.files import complete_file

_ALIGNMENT = 64  # bytes; TensorFlow copies arrays with another one


@functools.lru_cache(maxsize=1 << 16)
def image_head(length: int) -> bytes:
    """Returns what precedes the `length` bytes of an image in a serialized example.

    It is the start of the entry `image` of `tf.train.Features`, whose value is a list of one text,
    see https://protobuf.dev/programming-guides/encoding/.
    """
    head = b""
    for start in (b"\n", b"\n", b"\n\x05image\x12"):
        head = start + _varint(length + len(head)) + head
    return head


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def write_offsets(folder: Path, split: str, offsets: np.ndarray) -> None:
    """Stores the positions of the images of a split.

    Args:
      folder: Of the shards.
      split: Name of the split.
      offsets: First byte in the shard and number of bytes of each image, int64 (N, 2).
    """
    with complete_file(_offsets_path(folder, split), offsets.nbytes) as temporary:
        np.save(temporary, offsets)


def find_offsets(
    paths: Sequence[str], sizes: Sequence[int], split: str, search: Callable[[], np.ndarray]
) -> np.ndarray:
    """Returns the positions of the images of a split, see `write_offsets`.

    If the file is missing or does not belong to the shards, `search` finds the positions, and they
    are stored unless the folder cannot be written.
    """
    folder = Path(paths[0]).parent
    with contextlib.suppress(OSError, ValueError, EOFError):
        offsets = np.load(_offsets_path(folder, split), allow_pickle=False)
        if _match(offsets, paths, sizes):
            return offsets
    offsets = search()
    with contextlib.suppress(OSError, InputError):
        write_offsets(folder, split, offsets)
    return offsets


def _offsets_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.offsets.npy"


def _match(offsets: np.ndarray, paths: Sequence[str], sizes: Sequence[int]) -> bool:
    """Returns whether there is an image at each position, and none but these."""
    if offsets.shape != (sum(sizes), 2) or offsets.dtype != np.int64:
        return False
    first = 0
    for path, size in zip(paths, sizes, strict=True):
        end, shard = 0, memoryview(_map_file(path))
        for start, length in offsets[first : first + size].tolist():
            head = image_head(length) if 0 <= length <= len(shard) - start else b""
            before = start - len(head)
            if not head or before < end or shard[before:start] != head:
                return False
            end = start + length
        first += size
    return True


def map_images(
    paths: Sequence[str], sizes: Sequence[int], offsets: np.ndarray
) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    """Maps files into memory.

    Args:
      paths: Of the files.
      sizes: Number of images in each of them.
      offsets: First byte in the file and number of bytes of each image, int64 (N, 2).

    Returns:
      A function from numbers of images, int (B,), to their bytes, each a uint8 (length,) view of
      its file.
    """
    files = [np.frombuffer(_map_file(path), np.uint8) for path in paths]
    ends = np.cumsum(sizes)

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        numbers = np.searchsorted(ends, index, side="right")
        for number, (start, length) in zip(numbers.tolist(), offsets[index].tolist(), strict=True):
            yield files[number][start : start + length]

    return read


def _map_file(path: str) -> mmap.mmap:
    with Path(path).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class BatchMemory:
    """Memory for batches that TensorFlow takes over and that is used again once it is released.

    Fresh memory costs as much as copying the images into it.
    """

    def __init__(self) -> None:
        """Creates an empty store."""
        self._free: list[np.ndarray] = []

    def copy(self, images: Iterator[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Returns `shape[0]` images of equal size as uint8 `shape`."""
        size = math.prod(shape)
        memory = self._free.pop() if self._free else np.empty(0, np.uint8)
        if len(memory) < size:
            memory = np.empty(size + _ALIGNMENT, np.uint8)
            memory = memory[-memory.ctypes.data % _ALIGNMENT :]
        batch = memory[:size].reshape(shape)
        for row, image in zip(batch.reshape(shape[0], -1), images, strict=True):
            row[:] = image
        weakref.finalize(batch, self._free.append, memory).atexit = False
        return batch
