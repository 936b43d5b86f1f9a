"""Radiographs of any folder whose labels are in a table."""

from __future__ import annotations

from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import MissingData
from cxr_tfds.sources import Listing, open_source
from cxr_tfds.sources.unlabelled import explain_no_classes


class Builder(RadiographBuilder):
    """Builds `xray_table`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = SourceConfig
    CUTS_TEST = True
    SEVERAL_FINDINGS = True
    PATIENT_NAMES = 'the column given as "patient"'
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Build it: tfds build xray_table --imports cxr_tfds.builders --manual_dir FOLDER --config SETTINGS
SETTINGS are JSON and name the table: {"name": "224-mine", "table": "labels.csv"}
FOLDER, or an archive of it, has the table and the images, in any folders."""

    def scan(self, source: Path) -> Listing:
        """Returns the images of the table."""
        if self.builder_config.table is None:
            tops = open_source(source, self.MANUAL_DOWNLOAD_INSTRUCTIONS)
            raise explain_no_classes(MissingData("The setting `table` is missing."), tops)
        return super().scan(source)
