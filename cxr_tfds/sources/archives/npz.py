"""Lists the images in a `.npz` with the arrays of MedMNIST, one PNG for each image.

MedMNIST (https://doi.org/10.1038/s41597-022-01721-8) has three pairs of arrays: `train_images`,
uint8 of shape (N, H, W) or (N, H, W, 3), and `train_labels`, integers of shape (N, 1); the same for
`val` and `test`. Image 1 of `train` with label 0 becomes `train/0/000001.png`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import math
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.sources.archives.copies import decompress_once, read_part
from cxr_tfds.sources.archives.path import (
    ArchivePath,
    check_entry,
    incomplete_archive,
)
from cxr_tfds.sources.archives.zip import check_zip_entry, find_data, read_directory
from cxr_tfds.sources.paths import join_names

_log = logging.getLogger(__name__)

_SPLITS = ("train", "val", "test")
_NAMES = [f"{split}_{content}" for split in _SPLITS for content in ("images", "labels")]
_EXPECTED = f"""\
Expected the arrays of MedMNIST: {", ".join(_NAMES)} (val and test are optional).
Images: uint8, (N, H, W) or (N, H, W, 3). Labels: integers, (N, 1).
Other arrays: save the images as files, one folder for each class, and give the folder."""
_READ_ERRORS = (
    *(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error),
    RuntimeError,  # zipfile: encrypted, or a feature that is not implemented
)


@dataclasses.dataclass(frozen=True)
class NpzEntry:
    """The position of an image in an array."""

    archive: str
    file: str  # the npz, or the decompressed copy of the array
    offset: int
    shape: tuple[int, ...]  # (H, W) or (H, W, 3)

    @property
    def file_size(self) -> int:
        """Number of bytes of the pixels."""
        return math.prod(self.shape)

    def get_checksum(self) -> int:
        """Returns the CRC-32 of the pixels."""
        return zlib.crc32(self._read_pixels())

    def read_bytes(self) -> bytes:
        """Returns the image as a PNG, which keeps all pixels."""
        height, width, *channels = self.shape
        image = Image.frombytes("RGB" if channels else "L", (width, height), self._read_pixels())
        png = io.BytesIO()
        image.save(png, "PNG", compress_level=1)  # decoded at once, so size matters little
        return png.getvalue()

    def _read_pixels(self) -> bytes:
        return read_part(self.archive, self.file, self.offset, self.file_size)


class _Array(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    header_bytes: int
    fortran_order: bool


def has_images(archive: Path) -> bool:
    """Returns whether an npz has the arrays that `list_npz` reads, or is corrupt."""
    try:
        return "train_images.npy" in (info.filename for info in read_directory(archive, "npz"))
    except InputError:
        return True


def list_npz(archive: Path) -> list[ArchivePath]:
    """Returns the images in an npz as the files of a `split/class/file` layout.

    Raises:
      InputError: The npz is incomplete, or it has other arrays.
    """
    infos = {
        info.filename.removesuffix(".npy"): info
        for info in read_directory(archive, "npz")
        if check_zip_entry(archive, info, info.filename, max_bytes=sys.maxsize)
    }
    splits = [s for s in _SPLITS if {f"{s}_images", f"{s}_labels"} & infos.keys()]
    needed = {f"{split}_{content}" for split in splits for content in ("images", "labels")}
    if "train" not in splits or not needed <= infos.keys():
        raise InputError(f"{archive} has the arrays {join_names(sorted(infos))}.\n{_EXPECTED}")
    if others := sorted(infos.keys() - set(_NAMES)):
        _log.warning("Ignored in %s: the arrays %s.", archive, join_names(others))
    return [entry for split in splits for entry in _list_split(archive, split, infos)]


def _list_split(
    archive: Path, split: str, infos: Mapping[str, zipfile.ZipInfo]
) -> Iterator[ArchivePath]:
    name = f"{split}_images"
    info = infos[name]
    array = _read_header(archive, info)
    shape = array.shape[1:]
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    if array.dtype != np.uint8 or not is_image or min(shape) < 1 or array.fortran_order:
        order = " in Fortran order" if array.fortran_order else ""
        raise InputError(
            f"{archive}: {name} is {array.dtype} of shape {array.shape}{order}.\n{_EXPECTED}"
        )
    labels = _read_labels(archive, infos[f"{split}_labels"], array.shape[0])
    image_bytes = math.prod(shape)
    if info.file_size != array.header_bytes + len(labels) * image_bytes:
        raise incomplete_archive(archive, "npz", f"{name} has a wrong number of bytes")
    check_entry(archive, f"{name}[0]", image_bytes)
    file, start = _locate(archive, info)
    for index, label in enumerate(labels):
        offset = start + array.header_bytes + index * image_bytes
        path = f"{archive}/{split}/{label}/{index:06}.png"
        yield ArchivePath(path, NpzEntry(str(archive), file, offset, shape))


@contextlib.contextmanager
def _open_array(archive: Path, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """Opens an array. Errors while it is read mean that the archive is incomplete."""
    try:
        with zipfile.ZipFile(archive) as file, file.open(info) as stream:
            yield stream
    except _READ_ERRORS as err:
        if isinstance(err, InputError) and not isinstance(err, BadImage):
            raise
        raise incomplete_archive(archive, "npz", f"{info.filename}: {err}") from err


def _locate(archive: Path, info: zipfile.ZipInfo) -> tuple[str, int]:
    """Returns the file with the bytes of an array, and their position in it."""
    with _open_array(archive, info) as stream:
        if info.compress_type != zipfile.ZIP_STORED:
            return decompress_once(archive, info.filename, lambda: stream, info.file_size), 0
        with archive.open("rb") as file:
            return str(archive), find_data(file, info.header_offset)


def _read_header(archive: Path, info: zipfile.ZipInfo) -> _Array:
    with _open_array(archive, info) as stream:
        version = npy.read_magic(stream)
        if version == (1, 0):
            shape, fortran_order, dtype = npy.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran_order, dtype = npy.read_array_header_2_0(stream)
        else:
            raise ValueError(f"unsupported version {version}")
        name = info.filename.removesuffix(".npy")
        array = _Array(name, shape, dtype, stream.tell(), fortran_order and len(shape) > 1)
    if dtype.hasobject:
        raise InputError(
            f"{archive}: {name} holds Python objects, which may run code and are not "
            f"loaded.\n{_EXPECTED}"
        )
    return array


def _read_labels(archive: Path, info: zipfile.ZipInfo, count: int) -> list[int]:
    array = _read_header(archive, info)
    if array.dtype.kind not in "iu" or array.shape not in ((count,), (count, 1)):
        raise InputError(
            f"{archive}: {array.name} is {array.dtype} of shape {array.shape}, for {count:,} "
            f"images.\n{_EXPECTED}"
        )
    if info.file_size != array.header_bytes + count * array.dtype.itemsize:
        raise incomplete_archive(archive, "npz", f"{array.name} has a wrong number of bytes")
    with _open_array(archive, info) as stream:
        labels = npy.read_array(stream, allow_pickle=False)
    return [int(label) for label in labels.reshape(-1)]
