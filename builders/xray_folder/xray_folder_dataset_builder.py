"""Anyone's folder of radiographs, one folder a class, with or without splits."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from cxr_tfds.builder import RadiographBuilder, SourceImage
from cxr_tfds.config import RadiographConfig
from cxr_tfds.errors import InputError
from cxr_tfds.sources.classes import scan_classes


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes is not None and (
            isinstance(self.classes, str) or not all(isinstance(name, str) and name for name in self.classes)
        ):
            raise InputError(f'classes={self.classes!r}; expected names in a list: ["Normal", "Fibrosis"].')
        for name in ("negative", "patient"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise InputError(f"{name}={value!r}; expected a text.")
        try:
            re.compile(self.patient or "")
        except re.error as err:
            raise InputError(f"patient={self.patient!r} is no regular expression: {err}.") from err

    def stored(self) -> dict[str, Any]:
        classes = None if self.classes is None else list(self.classes)
        return super().stored() | {"classes": classes, "negative": self.negative, "patient": self.patient}


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
            raise InputError(f'split="source", but {source} has no splits of its own. Leave the setting out.')
        self.CLASSES = self.FINDINGS = found.classes
        above = 2 if found.has_splits else 1  # parts of an id above what stands below the class folder
        images = [
            SourceImage(
                file.path,
                file.split,
                file.class_name,
                file.class_name,
                file.image_id,
                self._patient(file.image_id.split("/", above)[above]),
            )
            for file in found.files
        ]
        if config.patient and not any(image.patient_id for image in images):
            names = ", ".join(image.image_id.split("/", above)[above] for image in images[:3])
            raise InputError(f"patient={config.patient!r} matches no file name; the names are like {names}.")
        return images

    def _patient(self, below: str) -> str:
        match = re.search(self.builder_config.patient, below) if self.builder_config.patient else None
        if match is None:
            return ""
        return (match.group(1) if match.re.groups else match.group()) or ""
