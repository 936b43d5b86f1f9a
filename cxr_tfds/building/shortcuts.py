"""Whether something that has nothing to do with the lung tells the class: size, aspect, JPEG quality, colours.

A model takes such a shortcut where it can see it, and then fails on files from elsewhere. In the Kaggle
pneumonia files the JPEG quality alone tells nearly every class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.building.file_stats import Facts
from cxr_tfds.metrics.ranking import auc

AUC_LIMIT = 0.75  # above it, or as far below 0.5, a property is reported
MIN_IMAGES = (
    20  # of the class and of the others: of fewer, chance alone gives such an AUC now and then
)
_RARE_SHARE = (
    0.01  # values rarer than that are one value: a size that occurs once would tell its class
)

_NUMBERS: Mapping[str, Callable[[Facts], float | None]] = {
    "image size": lambda facts: (facts.height * facts.width) ** 0.5,
    "aspect ratio": lambda facts: facts.width / facts.height,
    "JPEG quality": lambda facts: facts.quality,
    "bytes per pixel": lambda facts: facts.size / (facts.height * facts.width),
}
_NAMES: Mapping[str, Callable[[Facts], str]] = {
    "colour mode": lambda facts: facts.mode,
    "file format": lambda facts: facts.form,
    "exact size": lambda facts: f"{facts.width} x {facts.height}",
}
_HINTS = {"bytes per pixel": " (detail the files kept, in which the lungs have a part)"}
PROPERTIES = (*_NUMBERS, *_NAMES)


class Shortcut(NamedTuple):
    """A property by which a class can be told from the others."""

    property: str  # one of PROPERTIES
    class_name: str
    auc: float  # of the property as a score for the class, 0 to 1; far below 0.5: the class has low values
    text: str  # one sentence for a person

    def to_json(self) -> dict[str, Any]:
        return {
            "property": self.property,
            "class": self.class_name,
            "auc": round(self.auc, 4),
            "text": self.text,
        }


def find_shortcuts(
    labels: Sequence[str], facts: Sequence[Facts], classes: Sequence[str]
) -> list[Shortcut]:
    """The properties that tell a class from the others with an AUC beyond the limit, the worst first.

    Args:
      labels: class of each of N images.
      facts: of the same images.
      classes: class names, the negative class first. Of two only the second is looked at; of more each.
    """
    found = []
    given = np.asarray(labels)
    for class_name in classes[1:] if len(classes) == 2 else classes:
        positive = given == class_name
        for name, value in _NUMBERS.items():
            values = np.array(
                [np.nan if (v := value(fact)) is None else v for fact in facts], float
            )
            known = ~np.isnan(values)
            found.append(_by_number(name, class_name, values[known], positive[known]))
        for name, word in _NAMES.items():
            found.append(_by_name(name, class_name, [word(fact) for fact in facts], positive))
    told = [shortcut for shortcut in found if shortcut is not None]
    return sorted(told, key=lambda shortcut: -abs(shortcut.auc - 0.5))


def _enough(positive: np.ndarray) -> bool:
    return min(positive.sum(), (~positive).sum()) >= MIN_IMAGES


def _by_number(
    name: str, class_name: str, values: np.ndarray, positive: np.ndarray
) -> Shortcut | None:
    if not _enough(positive):
        return None
    area = auc(positive.astype(int), values)
    if 1 - AUC_LIMIT <= area <= AUC_LIMIT:
        return None
    inside, outside = np.median(values[positive]), np.median(values[~positive])
    medians = (
        f"median {_short(inside)} against {_short(outside)} of the others{_HINTS.get(name, '')}"
    )
    return Shortcut(
        name, class_name, area, f"{name} alone tells {class_name}: AUC {area:.2f}, {medians}"
    )


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _by_name(
    name: str, class_name: str, values: Sequence[str], positive: np.ndarray
) -> Shortcut | None:
    """Each value scores as the share of the class among the images that have it."""
    if not _enough(positive):
        return None
    counts = Counter(values)
    least = max(MIN_IMAGES, _RARE_SHARE * len(values))
    lumped = np.array([value if counts[value] >= least else "" for value in values])
    words, place = np.unique(lumped, return_inverse=True)
    inside = np.bincount(place, weights=positive, minlength=len(words))
    outside = np.bincount(place, weights=~positive, minlength=len(words))
    area = auc(positive.astype(int), (inside / (inside + outside))[place])
    if area <= AUC_LIMIT:
        return None
    most = int(np.argmax(np.abs(inside / inside.sum() - outside / outside.sum())))
    text = (
        f"{name} alone tells {class_name}: AUC {area:.2f}, {words[most] or 'rare values'} in "
        f"{inside[most] / inside.sum():.0%} of it against {outside[most] / outside.sum():.0%} of the others"
    )
    return Shortcut(name, class_name, area, text)
