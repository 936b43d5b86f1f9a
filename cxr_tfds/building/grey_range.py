"""Finds the range of source values of a dataset, and checks the grey levels that result."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.building.engines import map_files
from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.deep_pixels import is_deep_png, measure_deep
from cxr_tfds.imaging.dicom import is_dicom, measure_dicom
from cxr_tfds.imaging.grey_levels import FEW_LEVELS, GreyLevels
from cxr_tfds.imaging.opening import open_image
from cxr_tfds.parallel import all_cores, ordered_map
from cxr_tfds.regular_files import read_or_explain
from cxr_tfds.sources import SourceImage, SourcePath
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.paths import join_names
from cxr_tfds.text import printable

_PATHS_PER_TASK = 64
_HEAD_BYTES = 132  # contain the depth of a PNG and the magic numbers of TIFF and DICOM
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STEPS_BITS = 4  # the range ends at a multiple of a 16th of the next power of two
_EXTREME_SHARE = 0.98  # of almost black or white pixels, from which an image shows nothing
_ADVICE = (
    "Exclude files that are not radiographs, or set how source values become grey values, with "
    "bits, window or percentile:"
)


class GreyRange(NamedTuple):
    """The range of source values of a dataset."""

    low: float  # becomes 0
    high: float  # becomes 255
    files: int  # number of files that need the range
    largest: SourcePath  # the file with the largest value


def find_range(paths: Sequence[SourcePath]) -> GreyRange | None:
    """Returns the range of all files of more than 8 bits that do not declare their own.

    The first 132 bytes of a file show whether it may be one of these: a 16-bit grey PNG, a TIFF or
    DICOM. Only those are decoded, by `map_files`. Zip entries can only be read completely, so for
    them the suffix decides whether they are read. The range covers all images, each without its
    outliers (`robust_range`), rounded outwards to a 16th of the next power of two. It begins at 0
    unless there are negative values. A hot pixel therefore changes nothing, and values that fill 12
    bits get the range of 12 bits.

    Returns:
      The range, or None if no file needs one. Files that cannot be read are left to the build.

    Raises:
      InputError: As `map_files`.
    """
    parts = [paths[i : i + _PATHS_PER_TASK] for i in range(0, len(paths), _PATHS_PER_TASK)]
    with all_cores() as executor:
        candidates = [x for found in ordered_map(_select_deep, parts, executor) for x in found]
    results = zip(candidates, map_files(candidates, measure_file), strict=True)
    measured = [(path, found) for path, found in results if found is not None]
    if not measured:
        return None
    largest, (_, top) = max(measured, key=lambda item: item[1][1])
    bottom = min(low for _, (low, _) in measured)
    low = -_round_up(-bottom) if bottom < 0 else 0.0
    high = _round_up(max(top, 0) + 1) - 1
    return GreyRange(low, max(high, low + 1), len(measured), largest)


def resolve_levels(
    images: Sequence[SourceImage], levels: GreyLevels
) -> tuple[GreyLevels, list[str]]:
    """Returns the grey levels with the range of all images, if they need it, and remarks about it.

    Call it once for a dataset, before the first image is fitted, with the images of all splits.
    """
    found = find_range([image.path for image in images]) if levels.needs_range else None
    if found is None:
        return levels, []
    count = f"{found.files:,} {'file' if found.files == 1 else 'files'}"
    largest = next(image.image_id for image in images if image.path is found.largest)
    note = (
        f"Grey levels: source values {found.low:g} to {found.high:g} become 0 to 255 in {count} of "
        f"more than 8 bits that do not declare their range; {printable(largest)} has the largest "
        "values."
    )
    return dataclasses.replace(levels, measured=(found.low, found.high)), [note]


def _round_up(value: float) -> float:
    step = 2.0 ** max(0, int(value - 1).bit_length() - _STEPS_BITS) if value > 1 else 1.0
    return -(-value // step) * step


def _select_deep(paths: Sequence[SourcePath]) -> list[SourcePath]:
    return [path for path in paths if _may_be_deep(path)]


def _may_be_deep(path: SourcePath) -> bool:
    if not isinstance(path, Path):
        return path.name.lower().rpartition(".")[2] not in ("jpg", "jpeg", "jfif", "bmp", "gif")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False  # the build explains it
    return is_deep_png(head) or head.startswith(_TIFF) or is_dicom(head)


def measure_file(file: SourcePath | bytes | BadImage) -> tuple[float, float] | None:
    """Returns the robust range of a file's values, or None if it needs no range of the dataset."""
    data = file if isinstance(file, (bytes, BadImage)) else read_or_explain(file)
    if isinstance(data, BadImage):
        return None
    try:
        if is_dicom(data):
            return measure_dicom(data)
        if not is_deep_png(data) and not data.startswith(_TIFF):
            return None
        return measure_deep(open_image(data), data)
    except BadImage:
        return None


def check_grey_levels(images: Iterable[SourceImage], stats: Mapping[str, FileStats]) -> list[str]:
    """Returns remarks about images of few grey levels and about almost black or white ones.

    Args:
      images: The usable images, in any order.
      stats: Image id to statistics.

    Raises:
      InputError: They are the majority of a class.
    """
    found: dict[str, list[str]] = {}
    totals, poor = Counter[str](), Counter[str]()
    for image in images:
        label = image.label or "any finding"
        totals[label] += 1
        if reason := _reason(stats[image.image_id]):
            poor[label] += 1
            found.setdefault(reason, []).append(image.image_id)
    notes = [
        f"{reason}: {len(ids):,} ({join_names(sorted(ids))})." for reason, ids in found.items()
    ]
    if lost := [label for label in totals if poor[label] > totals[label] / 2]:
        classes = ", ".join(f"{label} ({poor[label]:,} of {totals[label]:,})" for label in lost)
        raise InputError(
            "\n".join([f"Most images of a class have lost their grey levels: {classes}.", *notes])
            + f"\n{_ADVICE} {propose_config('bits', 'window', percentile=[0.5, 99.5])}"
        )
    return notes


def _reason(stats: FileStats) -> str | None:
    if stats.grey_levels is not None and stats.grey_levels < FEW_LEVELS:
        return f"Images of fewer than {FEW_LEVELS} grey levels"
    for share, name in ((stats.black, "black"), (stats.white, "white")):
        if share is not None and share > _EXTREME_SHARE:
            return f"Images with more than {_EXTREME_SHARE:.0%} {name} pixels"
    return None
