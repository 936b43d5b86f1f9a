"""Slices of chest CT with and without COVID-19 (Zhao et al. 2020)."""

from __future__ import annotations

from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.sources import Listing
from cxr_tfds.sources.covid_ct import CLASSES, scan_slices


class Builder(RadiographBuilder):
    """Builds `covid_ct`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CLASSES = CLASSES
    FINDINGS = ("COVID-19",)  # the source does not state what the other slices show
    HOMEPAGE = "https://github.com/UCSD-AI4H/COVID-CT"
    PATIENT_NAMES = "papers and figures: 2020.02.25.20021568-p23-108%0.png, 35%0.jpg"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: git clone --depth 1 https://github.com/UCSD-AI4H/COVID-CT FOLDER
Build it:     tfds build covid_ct --imports cxr_tfds.builders --manual_dir FOLDER
You do not have to extract its zips."""

    def scan(self, source: Path) -> Listing:
        """Returns the slices. A paper of the test split is left out of the other splits."""
        listing = scan_slices(source)
        if self.builder_config.split == "source":
            return listing
        tested = {image.patient_id for image in listing.images if image.split == "test"} - {""}
        kept = [
            image
            for image in listing.images
            if image.split == "test" or image.patient_id not in tested
        ]
        if len(kept) == len(listing.images):
            return listing
        note = (
            "Slices of train and validation left out because the test split has others of "
            f'their paper: {len(listing.images) - len(kept)}. "split": "source" keeps them.'
        )
        return listing._replace(images=kept, notes=[*listing.notes, note])
