"""Finds properties of files and pixels that predict the class, such as size or JPEG quality.

A model learns such a shortcut if it can see it, and then fails on files from elsewhere. In the
Kaggle pneumonia files, JPEG quality alone predicts almost every class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.metrics.ranking import auc

AUC_LIMIT = 0.75  # properties with an AUC above it, or as far below 0.5, are reported
MIN_IMAGES = 20  # of the class and of the others; fewer images reach the limit by chance
_RARE_SHARE = 0.01  # rarer values count as one value: a size that occurs once predicts its class

_NUMBERS: Mapping[str, Callable[[FileStats], float | None]] = {
    "image size": lambda file: (file.height * file.width) ** 0.5,
    "aspect ratio": lambda file: file.width / file.height,
    "JPEG quality": lambda file: file.quality,
    "bytes per pixel": lambda file: file.size / (file.height * file.width),
    "mean grey value": lambda file: file.mean,
    "contrast": lambda file: file.contrast,
    "border brightness": lambda file: file.border,
    "grey levels": lambda file: file.grey_levels,
    "sharpness": lambda file: file.sharpness,
}
_NAMES: Mapping[str, Callable[[FileStats], str]] = {
    "colour mode": lambda file: file.mode,
    "file format": lambda file: file.format,
    "exact size": lambda file: f"{file.width} x {file.height}",
}
_BY_LUNGS = " (the lungs contribute to it)"
_HINTS = {
    "bytes per pixel": " (image detail, to which the lungs contribute)",
    "mean grey value": _BY_LUNGS,
    "contrast": _BY_LUNGS,
}
_PIXEL_FIELDS = ("mean", "contrast", "border", "grey_levels", "sharpness")
PROPERTIES = (*_NUMBERS, *_NAMES)


class Shortcut(NamedTuple):
    """A property of files or pixels that predicts a class."""

    property: str  # one of `PROPERTIES`
    class_name: str
    auc: float  # of the property as a score for the class; far below 0.5 if its values are low
    text: str  # one sentence for the report

    def to_json(self) -> dict[str, Any]:
        """Returns the shortcut as `build_report.json` holds it."""
        return {
            "property": self.property,
            "class": self.class_name,
            "auc": round(self.auc, 4),
            "text": self.text,
        }


def find_shortcuts(
    labels: Sequence[str], stats: Sequence[FileStats], classes: Sequence[str]
) -> list[Shortcut]:
    """Returns the properties whose AUC for a class is beyond the limit, the worst first.

    Args:
      labels: Classes of N images.
      stats: Statistics of their files.
      classes: Class names, the negative class first. Of two classes only the second is examined, of
        more than two each.
    """
    found = []
    for class_name in classes[1:] if len(classes) == 2 else classes:
        positive = np.asarray(labels) == class_name
        for name, number in _NUMBERS.items():
            values = np.array([np.nan if (v := number(s)) is None else v for s in stats], float)
            known = ~np.isnan(values)
            found.append(_check_numbers(name, class_name, values[known], positive[known]))
        for name, text in _NAMES.items():
            found.append(_check_names(name, class_name, [text(s) for s in stats], positive))
    shortcuts = [shortcut for shortcut in found if shortcut is not None]
    return sorted(shortcuts, key=lambda shortcut: -abs(shortcut.auc - 0.5))


def tabulate_pixels(
    splits: Mapping[str, Sequence[tuple[str, FileStats]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns split to class to the median of each pixel statistic.

    Args:
      splits: Split to the class and statistics of its images. Images without pixel statistics are
        left out.

    Returns:
      For example `{"train": {"NORMAL": {"mean": 120.5, "contrast": 60.1, "border": 80.0,
      "grey_levels": 250, "sharpness": 3.2}}}`, sorted by class.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for split, images in splits.items():
        by_class: dict[str, list[FileStats]] = {}
        for label, stats in images:
            if stats.mean is not None:
                by_class.setdefault(label, []).append(stats)
        table[split] = {
            label: {
                name: round(float(np.median([getattr(s, name) for s in several])), 2)
                for name in _PIXEL_FIELDS
            }
            for label, several in sorted(by_class.items())
        }
    return table


def _has_enough(positive: np.ndarray) -> bool:
    return min(positive.sum(), (~positive).sum()) >= MIN_IMAGES


def _check_numbers(
    name: str, class_name: str, values: np.ndarray, positive: np.ndarray
) -> Shortcut | None:
    if not _has_enough(positive):
        return None
    area = auc(positive.astype(int), values)
    if 1 - AUC_LIMIT <= area <= AUC_LIMIT:
        return None
    inside, outside = np.median(values[positive]), np.median(values[~positive])
    text = (
        f"{name} alone predicts {class_name}: AUC {area:.2f}, median {_format(inside)} against "
        f"{_format(outside)} for the others{_HINTS.get(name, '')}"
    )
    return Shortcut(name, class_name, area, text)


def _format(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _check_names(
    name: str, class_name: str, values: Sequence[str], positive: np.ndarray
) -> Shortcut | None:
    # The score of a value is the share of the class among the images that have it.
    if not _has_enough(positive):
        return None
    counts = Counter(values)
    least = max(MIN_IMAGES, _RARE_SHARE * len(values))
    common = np.array([value if counts[value] >= least else "" for value in values])
    names, index = np.unique(common, return_inverse=True)
    inside = np.bincount(index, weights=positive, minlength=len(names))
    outside = np.bincount(index, weights=~positive, minlength=len(names))
    area = auc(positive.astype(int), (inside / (inside + outside))[index])
    if area <= AUC_LIMIT:
        return None
    inside, outside = inside / inside.sum(), outside / outside.sum()
    most = int(np.argmax(np.abs(inside - outside)))
    text = (
        f"{name} alone predicts {class_name}: AUC {area:.2f}, {names[most] or 'rare values'} in "
        f"{inside[most]:.0%} of the class against {outside[most]:.0%} of the others"
    )
    return Shortcut(name, class_name, area, text)
