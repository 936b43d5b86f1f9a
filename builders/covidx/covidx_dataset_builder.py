"""Chest radiographs with and without COVID-19 (COVIDx CXR, Wu et al. 2023)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.sources import Listing, ReaderSettings, SourceImage, read_source
from cxr_tfds.sources.tables.files import walk_source

TABLES = {"train": "train.txt", "test": "test.txt"}
VALIDATION = {"validation": "val.txt"}  # since COVIDx CXR-4
TESTED = 'images of train and validation whose patient is in test ("split": "source" keeps them)'


class Builder(RadiographBuilder):
    """Builds `covidx`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = SourceConfig
    # The tables have no header. Their columns are patient, file, class and, except in old versions,
    # the dataset from which the image comes.
    READER = ReaderSettings(table=TABLES, patient="1", image="2", label="3")
    HOMEPAGE = "https://www.kaggle.com/datasets/andyczhao/covidx-cxr2"
    KAGGLE = "andyczhao/covidx-cxr2"
    PATIENT_NAMES = "the first column of the tables"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: kaggle datasets download andyczhao/covidx-cxr2 -p FOLDER
Build it:     tfds build covidx --imports cxr_tfds.builders --manual_dir FOLDER
You do not have to extract the zip. FOLDER has train.txt and test.txt, val.txt (optional), and the
images. For tables with other names, give the setting `table`."""

    def scan(self, source: Path) -> Listing:
        """Returns the images of the tables. Without the setting `table`, val.txt is optional."""
        settings = self.builder_config.reader_settings(self.READER)
        if self.builder_config.table is None and any(
            file.path.name in VALIDATION.values() for file in walk_source(source)
        ):
            settings = dataclasses.replace(settings, table=TABLES | VALIDATION)
        listing = read_source(source, settings)
        if _are_row_numbers(listing.images):
            images = [image._replace(patient_id="") for image in listing.images]
            note = "The first column of the tables numbers the rows: patients are unknown."
            return listing._replace(images=images, notes=[*listing.notes, note])
        if self.builder_config.split == "source":
            return listing
        return _leave_out_tested_patients(listing)


def _are_row_numbers(images: Sequence[SourceImage]) -> bool:
    """Returns whether the first column has a new number for each image of a table.

    The published tables have ids of several forms, such as "277" and "419639-001464".
    """
    counts = Counter((image.split, image.patient_id) for image in images)
    return max(counts.values()) == 1 and all(image.patient_id.isdecimal() for image in images)


def _leave_out_tested_patients(listing: Listing) -> Listing:
    """Returns the listing without the images of other splits whose patient is in test."""
    tested = {image.patient_id for image in listing.images if image.split == "test"} - {""}
    kept = [
        image for image in listing.images if image.split == "test" or image.patient_id not in tested
    ]
    kept_ids = {image.image_id for image in kept}
    if names := [x.image_id for x in listing.images if x.image_id not in kept_ids]:
        listing = listing._replace(images=kept, left_out={**listing.left_out, TESTED: names})
    return listing
