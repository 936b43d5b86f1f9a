"""Radiographs with COVID-19, other opacities, viral pneumonia, or normal (Rahman et al. 2021)."""

from __future__ import annotations

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.sources import ReaderSettings


class Builder(RadiographBuilder):
    """Builds `covid19_radiography`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = SourceConfig
    READER = ReaderSettings(classes=["Normal", "COVID", "Lung_Opacity", "Viral Pneumonia"])
    CUTS_TEST = True
    HOMEPAGE = "https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database"
    KAGGLE = "tawsifurrahman/covid19-radiography-database"
    PATIENT_NAMES = "none: the source renumbered its files"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: kaggle datasets download tawsifurrahman/covid19-radiography-database -p FOLDER
Build it:     tfds build covid19_radiography --imports cxr_tfds.builders --manual_dir FOLDER
You do not have to extract the zip."""
