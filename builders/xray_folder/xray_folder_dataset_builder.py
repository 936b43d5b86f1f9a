"""Anyone's folder of radiographs, one folder a class, with or without splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.errors import InputError
from cxr_tfds.sources import SourceImage
from cxr_tfds.sources.classes import check_reading, patients_of, scan_classes


@dataclasses.dataclass(eq=False, kw_only=True)
class XrayFolderConfig(RadiographConfig):
    """How to read the folder, and how its images are stored and split.

    Attributes:
      classes: class names, the negative class first; None takes the names of the folders.
      negative: the class without the finding, where its name does not say so.
      patient: a regular expression searched in what stands below the class folder, such as
        `ward3/p017_a.png`; its first group, or the whole match, is the patient. None: no patient is known.

    Raises:
      InputError: a value is not as described, see also `RadiographConfig`.
    """

    classes: Sequence[str] | None = None
    negative: str | None = None
    patient: str | None = None

    def check(self) -> None:
        super().check()
        check_reading(self.classes, self.negative, self.patient)

    def stored(self) -> dict[str, Any]:
        classes = None if self.classes is None else list(self.classes)
        return super().stored() | {
            "classes": classes,
            "negative": self.negative,
            "patient": self.patient,
        }


class Builder(RadiographBuilder):
    """Builder of `xray_folder`; see README.md beside this file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    BUILDER_CONFIGS = [XrayFolderConfig(name="224", description="224 x 224 greyscale, raw uint8")]  # noqa: RUF012
    builder_config: XrayFolderConfig
    CLASSES: Sequence[str] = ()  # the folder's own, once it has been scanned
    FINDINGS: Sequence[str] = ()
    CUTS_TEST = True
    HOMEPAGE = ""
    PATIENT_NAMES = 'none yet; say what in a name is the patient: "patient": "^(p[0-9]+)_"'
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Build it: tfds build xray_folder --imports cxr_tfds.builders --manual_dir FOLDER
FOLDER, or a zip of it, holds one folder a class, or train, val and test with one folder a class each."""

    def scan(self, source: Path) -> list[SourceImage]:
        config = self.builder_config
        found = scan_classes(source, config.classes, config.negative)
        if config.split == "source" and not found.has_splits:
            raise InputError(
                f'split="source", but {source} has no splits of its own. Leave the setting out.'
            )
        self.CLASSES = self.FINDINGS = found.classes
        patients = patients_of(found, config.patient) if config.patient else [""] * len(found.files)
        return [
            SourceImage(
                file.path, file.split, file.class_name, file.class_name, file.image_id, patient
            )
            for file, patient in zip(found.files, patients, strict=True)
        ]
