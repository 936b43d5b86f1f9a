"""Paediatric chest radiographs, normal or opacity (Kermany et al. 2018 with another split)."""

from __future__ import annotations

from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.sources import Listing, scan_splits
from cxr_tfds.sources.kermany import FINDINGS, PATIENT_NAMES, parse_names


class Builder(RadiographBuilder):
    """Builds `pneumonia_xray_images`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CLASSES = ("Normal", "Opacity")
    FINDINGS = FINDINGS
    HOMEPAGE = "https://www.kaggle.com/datasets/pcbreviglieri/pneumonia-xray-images"
    KAGGLE = "pcbreviglieri/pneumonia-xray-images"
    PATIENT_NAMES = PATIENT_NAMES
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: kaggle datasets download pcbreviglieri/pneumonia-xray-images -p FOLDER
Build it:     tfds build pneumonia_xray_images --imports cxr_tfds.builders --manual_dir FOLDER
You do not have to extract the zip."""

    def scan(self, source: Path) -> Listing:
        """Returns the images, with patient and finding from their file names."""
        listing = scan_splits(source, "pneumonia_xray_images", self.CLASSES)
        return listing._replace(images=parse_names(listing.images))
