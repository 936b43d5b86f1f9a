"""Paediatric chest radiographs, normal or pneumonia (Kermany et al. 2018)."""

from __future__ import annotations

from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.sources import Listing, scan_splits
from cxr_tfds.sources.kermany import FINDINGS, PATIENT_NAMES, parse_names


class Builder(RadiographBuilder):
    """Builds `chest_xray_pneumonia`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CLASSES = ("NORMAL", "PNEUMONIA")
    FINDINGS = FINDINGS
    HOMEPAGE = "https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia"
    KAGGLE = "paultimothymooney/chest-xray-pneumonia"
    PATIENT_NAMES = PATIENT_NAMES
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: kaggle datasets download paultimothymooney/chest-xray-pneumonia -p FOLDER
Build it:     tfds build chest_xray_pneumonia --imports cxr_tfds.builders --manual_dir FOLDER
You do not have to extract the zip.
To try it without the data, draw a stand-in: cxr-data phantom --out FOLDER"""

    def scan(self, source: Path) -> Listing:
        """Returns the images, with patient and finding from their file names."""
        listing = scan_splits(source, "chest_xray", self.CLASSES)
        return listing._replace(images=parse_names(listing.images))
