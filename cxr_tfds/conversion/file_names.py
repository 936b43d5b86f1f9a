"""Safe and unique file names made from image ids and class names."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.dicom import is_dicom
from cxr_tfds.imaging.opening import open_image
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.sources.paths import SPLIT_NAMES

MAX_BYTES = 120  # file systems allow 255 bytes; tar headers hold 100 without an extension
_UNSAFE = re.compile(r"[^\w.\-() +,=@%]|[\x00-\x1f]")
# Windows gives these names, with any suffix, to devices.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# The format as Pillow names it -> suffixes in use, the usual one first.
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k"),
    "DICOM": (".dcm", ".dicom"),
}


class UniqueNames:
    """Gives out file names that are safe on all file systems and differ also without case.

    It remembers 8 bytes of each name.
    """

    def __init__(self) -> None:
        self._taken: set[bytes] = set()

    def choose(self, folder: str, name: str, identity: str, suffix: str = "") -> str:
        """Returns a file name in `folder`, made from `name`.

        Args:
          folder: Folder in which the name must be unique.
          name: The preferred name, without suffix.
          identity: Text that is unique; a digest of it follows names that are taken.
          suffix: Suffix of the file.
        """
        name = safe_name(name)
        digest = hashlib.sha256(identity.encode()).hexdigest()
        for choice in (name, f"{name}-{digest[:8]}", f"{name}-{digest}"):
            key = hashlib.blake2b(f"{folder}/{choice}".casefold().encode(), digest_size=8).digest()
            if key not in self._taken:
                self._taken.add(key)
                return choice + suffix
        raise InputError(f"Two images have the id {identity!r}. Build the dataset again.")


def safe_name(text: str) -> str:
    """Returns `text` as a file name without suffix that every file system accepts."""
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).strip(" .") or "_"
    if name.startswith("-") or _RESERVED.fullmatch(name):
        name = f"_{name}"
    return name.encode()[:MAX_BYTES].decode(errors="ignore").rstrip(" .")


def name_of_id(image_id: str, class_name: str) -> str:
    """Returns an image id without split, class and suffix, as one name.

    For example, "train/NORMAL/p017/2.png" of the class NORMAL gives "p017_2".
    """
    *folders, name = image_id.split("/")
    path = PurePosixPath(name)
    if path.suffix.casefold() in SUFFIXES:
        name = path.stem
    if folders and folders[0].casefold() in SPLIT_NAMES:
        del folders[0]
    if folders and class_name and folders[0].casefold() == class_name.casefold():
        del folders[0]
    return "_".join([*folders, name])


def find_suffix(data: bytes, image_id: str) -> str:
    """Returns the suffix of an image file by its content.

    The suffix in `image_id` is kept if it belongs to the format.

    Raises:
      BadImage: The file is not an image, or exceeds the limits of `cxr_tfds.limits`.
    """
    form = "DICOM" if is_dicom(data) else open_image(data).format
    known = _SUFFIXES[form or ""]
    own = PurePosixPath(image_id).suffix
    return own if own.casefold() in known else known[0]
