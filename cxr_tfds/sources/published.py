"""What the builders of published datasets with tables share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr_tfds.sources.image import Listing, State
from cxr_tfds.sources.opening import open_source
from cxr_tfds.sources.paths import find_folders, list_children
from cxr_tfds.sources.tables.files import EXPECTED


def contains_file(source: Path, name: str) -> bool:
    """Returns whether a source, or an archive in it, contains a file with this name.

    Raises:
      MissingData: The source does not exist.
    """
    return any(
        find_folders(top, lambda folder: any(path.name == name for path in list_children(folder)))
        for top in open_source(source, EXPECTED)
    )


def select_findings(listing: Listing, findings: Mapping[str, Sequence[str]]) -> Listing:
    """Returns a listing with these findings, also if no image of a part of the dataset has one.

    A finding is present if any of its labels is. A label that no image has is absent.

    Args:
      listing: Images with several findings, or with one class each.
      findings: Name of each finding to its labels, which are compared without case.
    """
    position = {name.casefold(): i for i, name in enumerate(listing.classes)}
    labels = [[label.casefold() for label in own] for own in findings.values()]
    order = (State.PRESENT, State.UNCERTAIN, State.UNKNOWN, State.ABSENT)
    images = []
    for image in listing.images:
        if image.states:
            states = [
                min((image.states[position[x]] for x in own if x in position), key=order.index)
                if any(x in position for x in own)
                else State.ABSENT
                for own in labels
            ]
        else:
            label = image.label.casefold()
            states = [State.PRESENT if label in own else State.ABSENT for own in labels]
        images.append(image._replace(label="", states=tuple(states)))
    return listing._replace(images=images, classes=tuple(findings), several_findings=True)
