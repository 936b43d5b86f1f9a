"""Any folder of radiographs with one folder per class, with or without splits."""

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
from cxr_tfds.sources.classes import check_reader_settings, parse_patients, scan_classes


@dataclasses.dataclass(eq=False, kw_only=True)
class XrayFolderConfig(RadiographConfig):
    """Settings for reading the folder, and how its images are stored and split.

    Attributes:
      classes: Class names, the negative class first; None takes the folder names.
      negative: The class without the finding; None recognizes it by its name.
      patient: Regular expression, searched in the path below the class folder, such as
        `ward3/p017_a.png`. Its first group, or else the complete match, is the patient. None: the
        patients are unknown.

    Raises:
      InputError: A value is not allowed, see also `RadiographConfig`.
    """

    classes: Sequence[str] | None = None
    negative: str | None = None
    patient: str | None = None

    def check(self) -> None:
        """Checks the settings. Raises InputError if a value is not allowed."""
        super().check()
        check_reader_settings(self.classes, self.negative, self.patient)

    def stored(self) -> dict[str, Any]:
        """Returns the settings that identify the dataset."""
        classes = None if self.classes is None else list(self.classes)
        own = {"classes": classes, "negative": self.negative, "patient": self.patient}
        return super().stored() | own


class Builder(RadiographBuilder):
    """Builds `xray_folder`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    BUILDER_CONFIGS = [XrayFolderConfig(name="224", description="224 x 224 greyscale, raw uint8")]  # noqa: RUF012
    builder_config: XrayFolderConfig
    CLASSES: Sequence[str] = ()  # set by `scan`
    FINDINGS: Sequence[str] = ()
    CUTS_TEST = True
    HOMEPAGE = ""
    PATIENT_NAMES = 'none by default; a pattern finds them: "patient": "^(p[0-9]+)_"'
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Build it: tfds build xray_folder --imports cxr_tfds.builders --manual_dir FOLDER
FOLDER, or a zip of it, has one folder per class, or train, val and test with these folders."""

    def scan(self, source: Path) -> list[SourceImage]:
        """Returns the images of all classes; the finding is the class."""
        config = self.builder_config
        folders = scan_classes(source, config.classes, config.negative)
        if config.split == "source" and not folders.has_splits:
            raise InputError(
                f'split="source", but {source} has no splits of its own. Remove the setting.'
            )
        self.CLASSES = self.FINDINGS = folders.classes
        images = parse_patients(folders, config.patient) if config.patient else folders.images
        return [image._replace(finding=image.label) for image in images]
