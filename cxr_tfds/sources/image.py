"""The images that a source lists, before any is decoded."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.paths import join_names


class State(enum.IntEnum):
    """What a source states about one finding of an image.

    The numbers are used in CheXpert's tables (https://arxiv.org/abs/1901.07031, section 2), where
    an empty cell means that the report does not mention the finding.
    """

    PRESENT = 1
    ABSENT = 0
    UNCERTAIN = -1
    UNKNOWN = -2


class SourceImage(NamedTuple):
    """One image file, with the split, class and patient that its source states."""

    path: SourcePath
    split: str  # the source's own: train, validation, test, or fold:N
    label: str  # name of the class; "" if an image may have several findings
    image_id: str  # such as train/NORMAL/a.jpeg: unique, and the same for all copies of a source
    finding: str | None = None  # None if the source does not state it
    patient_id: str = ""  # "" if unknown
    states: tuple[State, ...] = ()  # one for each finding, if an image may have several
    group: str = ""  # set where images of several patients are identical
    inner_path: str = ""  # below the class folder, as on disk

    @property
    def group_name(self) -> str:
        """The group, else the patient, else the image itself: what must stay in one split."""
        return self.group or self.patient_id or f"image:{self.image_id}"


NO_FINDING = "no finding"  # of an image that may have several findings and has none


def get_labels(image: SourceImage, classes: Sequence[str]) -> list[str]:
    """Returns the class of an image, or the findings that are present, or NO_FINDING."""
    if not image.states:
        return [image.label]
    states = zip(classes, image.states, strict=True)
    return [name for name, state in states if state == State.PRESENT] or [NO_FINDING]


class Listing(NamedTuple):
    """The labelled images of a source.

    Attributes:
      images: Sorted by id.
      classes: Class names, the negative class first. If an image may have several findings, the
        names of the findings, in the order of `SourceImage.states`.
      findings: Names that `SourceImage.finding` may have; empty if they are the classes.
      has_splits: Whether the source has splits of its own.
      several_findings: Whether `classes` are findings and an image may have several.
      left_out: Reason to the files that the source contains but the listing does not.
      notes: Further remarks for the build report.
    """

    images: list[SourceImage]
    classes: tuple[str, ...]
    findings: tuple[str, ...] = ()
    has_splits: bool = True
    several_findings: bool = False
    left_out: Mapping[str, Sequence[str]] = {}
    notes: Sequence[str] = ()

    def describe(self) -> list[str]:
        """Returns the notes, and one more for each reason to leave files out."""
        return [
            *self.notes,
            *(
                f"Left out, {reason}: {len(names):,} ({join_names(names)})."
                for reason, names in self.left_out.items()
            ),
        ]
