"""Recognizes files that are not radiographs: masks, annotations, tables and texts."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.opening import open_image
from cxr_tfds.regular_files import read_content
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.paths import join_names

MASKS = "masks and annotations"
NOT_IMAGES = "files that are not images"
EXCLUDED = "by the settings include and exclude"
# "masks", "lung masks", "ManualMask", "leftMask", "segmentation_masks", "Annotations"
_MASK_FOLDER = re.compile(r"masks?$|^(?:segmentation|annotation)s?\b|^segmentation", re.IGNORECASE)
_MASK_STEM = re.compile(r"(?:^|[ _-])masks?(?:[ _-]?\d+)?$", re.IGNORECASE)
# Other suffixes are read as images: a file without one may be DICOM, and a corrupt image is named.
_OTHER_SUFFIXES = {
    ".csv", ".tsv", ".txt", ".md", ".pdf", ".json", ".jsonl", ".xml", ".xls", ".xlsx", ".parquet",
    ".doc", ".docx", ".htm", ".html", ".ini", ".db", ".log", ".yml", ".yaml", ".py", ".ipynb",
    ".mat", ".npy", ".npz", ".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".h5", ".nii", ".pkl",
}  # fmt: skip


def is_mask_folder(name: str) -> bool:
    """Returns whether a folder name means masks or annotations."""
    return _MASK_FOLDER.search(name) is not None


@functools.lru_cache
def _is_in_mask_folder(folder: str) -> bool:
    return any(map(is_mask_folder, folder.split("/")))


class FileFilter:
    """Decides which files of a source are read, and remembers the others.

    Args:
      include: Patterns (`fnmatch`) of paths below the source. A path must match one of them. They
        also readmit masks. Empty includes everything.
      exclude: Patterns. A path must match none of them.
      source: The folder or archive that holds the files; None if none of them is read.

    Attributes:
      left_out: Reason to the paths that were left out.
    """

    def __init__(
        self, include: Sequence[str] = (), exclude: Sequence[str] = (), *, source: Path | None
    ) -> None:
        self._include = include
        self._exclude = exclude
        self.source = source
        self.left_out: dict[str, list[str]] = defaultdict(list)

    def accepts(self, inner_path: str) -> bool:
        """Returns whether to read the file with this path below the source."""
        if reason := self.explain(inner_path):
            self.left_out[reason].append(inner_path)
        return reason is None

    def explain(self, inner_path: str) -> str | None:
        """Returns why a file is left out, or None if it is read."""
        folder, _, name = inner_path.rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        if f"{dot}{suffix}".casefold() in _OTHER_SUFFIXES or name == "DICOMDIR":
            return NOT_IMAGES
        if any(fnmatch.fnmatch(inner_path, pattern) for pattern in self._exclude):
            return EXCLUDED
        if self._include:
            is_included = any(fnmatch.fnmatch(inner_path, pattern) for pattern in self._include)
            return None if is_included else EXCLUDED
        if _is_in_mask_folder(folder) or _MASK_STEM.search(stem or name):
            return MASKS
        return None

    def accepts_any(self, inner_paths: Iterable[str]) -> bool:
        """Returns whether to read any of the files; none of them is recorded."""
        return any(self.explain(inner_path) is None for inner_path in inner_paths)

    def describe(self) -> str:
        """Returns how many files were left out and why, for a message; "" without such files."""
        reasons = [f"{len(names):,} {reason}" for reason, names in self.left_out.items() if names]
        return f" Left out: {', '.join(reasons)}." if reasons else ""

    def without_record(self) -> FileFilter:
        """Returns a filter with the same patterns that has left out nothing yet."""
        return FileFilter(self._include, self._exclude, source=self.source)

    def leave_out(self, reason: str, path: str) -> None:
        """Records a file that the caller leaves out."""
        self.left_out[reason].append(path)


def find_unnamed_masks(images: Sequence[SourceImage]) -> set[str]:
    """Returns the ids of images of two grey levels with the name and size of another image.

    One file of each folder and suffix is decoded, and the others only if it has two grey levels.

    Raises:
      InputError: All images of a class are such masks.
    """
    by_name: dict[tuple[str, str, str], list[SourceImage]] = defaultdict(list)
    for image in images:
        by_name[image.split, image.label, PurePath(image.path.name).stem].append(image)
    repeated = {
        image.image_id: group for group in by_name.values() if len(group) > 1 for image in group
    }
    by_folder: dict[tuple[str, str], list[SourceImage]] = defaultdict(list)
    for image in images:
        if image.image_id in repeated:
            folder = image.image_id.rpartition("/")[0]
            by_folder[folder, PurePath(image.path.name).suffix].append(image)
    found: set[str] = set()
    for members in by_folder.values():
        for number, image in enumerate(members):
            size = _size_of_two_levels(image.path)
            if size is None and number == 0:
                break
            twins = (other.path for other in repeated[image.image_id] if other is not image)
            if size is not None and size in map(_read_size, twins):
                found.add(image.image_id)
    if found:
        remaining = {image.label for image in images if image.image_id not in found}
        if empty := sorted({image.label for image in images} - remaining):
            masks = [image.image_id for image in images if image.label == empty[0]]
            raise InputError(
                f"All images of {empty[0]} look like masks: two grey levels, and the name and size "
                f"of another file ({join_names(masks)}). If they are radiographs, read them with: "
                f"{propose_config(include=['*'])}"
            )
    return found


def _read_size(path: SourcePath) -> tuple[int, int] | None:
    try:
        return open_image(read_content(path)).size
    except (OSError, BadImage):  # reported when the image is decoded
        return None


def _size_of_two_levels(path: SourcePath) -> tuple[int, int] | None:
    """Returns the size of an image with at most two grey levels, and None for any other file."""
    try:
        image = open_image(read_content(path))
        is_8_bit = image.mode in ("1", "L", "P", "RGB", "RGBA")
        return image.size if is_8_bit and image.convert("L").getcolors(2) else None
    except Exception:  # Pillow's decoders raise many kinds
        return None
