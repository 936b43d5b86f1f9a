"""Any folder of radiographs with one folder per class, with or without splits."""

from __future__ import annotations

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.sources.patients import EXAMPLES


class Builder(RadiographBuilder):
    """Builds `xray_folder`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = SourceConfig
    CUTS_TEST = True
    PATIENT_NAMES = f'{EXAMPLES}; others with a pattern: "patient": "^(p[0-9]+)_"'
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Build it: tfds build xray_folder --imports cxr_tfds.builders --manual_dir FOLDER
FOLDER, or an archive of it, has one folder per class, or train, val and test with these folders."""
