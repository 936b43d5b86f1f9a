"""Chest radiographs with or without tuberculosis, Montgomery and Shenzhen (Jaeger et al. 2014)."""

from __future__ import annotations

from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.sources import Listing, ReaderSettings

# Later images of a patient, as the clinical readings report: "same pt as MCUCXR_0113_1". The
# reading of 0170 mentions earlier images that fit 0162 and 0166, and has the same sex and age.
SAME_PATIENT = {
    "tb-MCUCXR_0117": "tb-MCUCXR_0113",
    "tb-MCUCXR_0166": "tb-MCUCXR_0162",
    "tb-MCUCXR_0170": "tb-MCUCXR_0162",
}


class Builder(RadiographBuilder):
    """Builds `tb_chest_xray`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = SourceConfig
    READER = ReaderSettings(
        class_pattern=r"^(?:MCUCXR|CHNCXR)_\d{4}_([01])\.",
        classes={"Normal": ["0"], "Tuberculosis": ["1"]},
        # A copy on Kaggle repeats some images in a folder `test`. The sets have no splits.
        exclude=("test/*", "*/test/*"),
    )
    CUTS_TEST = True
    HOMEPAGE = (
        "https://lhncbc.nlm.nih.gov/LHC-publications/pubs/TuberculosisChestXrayImageDataSets.html"
    )
    KAGGLE = "kmader/pulmonary-chest-xray-abnormalities"
    PATIENT_NAMES = "MCUCXR_0001_0.png, CHNCXR_0327_1.png"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: kaggle datasets download kmader/pulmonary-chest-xray-abnormalities -p FOLDER
Build it:     tfds build tb_chest_xray --imports cxr_tfds.builders --manual_dir FOLDER
You do not have to extract the zip. FOLDER may also have only one of the two sets:
MontgomerySet/CXR_png or ChinaSet_AllFiles/CXR_png."""

    def scan(self, source: Path) -> Listing:
        """Returns the images, with one patient for all images that the readings connect."""
        listing = super().scan(source)
        images = [
            image._replace(
                finding=None, patient_id=SAME_PATIENT.get(image.patient_id, image.patient_id)
            )
            for image in listing.images
        ]
        return listing._replace(images=images, findings=())
