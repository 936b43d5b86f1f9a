"""NIH ChestX-ray14: 112,120 frontal radiographs with 14 findings (Wang et al. 2017)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, ReaderSettings, read_source
from cxr_tfds.sources.published import list_file_names, select_findings

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis",
    "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")  # the first one found is read
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}


class Builder(RadiographBuilder):
    """Builds `nih_chest_xray14`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = SourceConfig
    READER = ReaderSettings(
        table=TABLES[0],
        image="Image Index",
        label="Finding Labels",
        patient="Patient ID",
        split_lists=LISTS,
    )
    SEVERAL_FINDINGS = True
    CUTS_TEST = True
    HOMEPAGE = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
    PATIENT_NAMES = 'the column "Patient ID"'
    KAGGLE = "nih-chest-xrays/data"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data from https://nihcc.app.box.com/v/ChestXray-NIHCC, or from Kaggle:
    kaggle datasets download nih-chest-xrays/data --unzip -p FOLDER
Build it: tfds build nih_chest_xray14 --imports cxr_tfds.builders --manual_dir FOLDER
FOLDER has Data_Entry_2017_v2020.csv or Data_Entry_2017.csv, train_val_list.txt, test_list.txt,
and the images in any folders."""

    def scan(self, source: Path) -> Listing:
        """Returns the images with all 14 findings, in the official splits if the lists exist."""
        config = self.builder_config
        settings = config.reader_settings(self.READER)
        names = list_file_names(source)
        if config.table is None:
            table = next((name for name in TABLES if name in names), TABLES[0])
            settings = dataclasses.replace(settings, table=table)
        notes = []
        if config.split_lists is None:
            missing = [name for name in LISTS.values() if name not in names]
            if len(missing) == 1:
                raise InputError(
                    f"{source} has no {missing[0]}, but the other list of the official split. "
                    f"Get both from {self.HOMEPAGE}, or remove the other one: without the lists, "
                    "the splits are cut by patient."
                )
            if missing:
                settings = dataclasses.replace(settings, split_lists=None)
                notes = [f"The source has no {' and no '.join(missing)}: not the official split."]
        if config.classes is None and config.negative is None:
            # `select_findings` makes "No Finding" the absence of the findings.
            settings = dataclasses.replace(settings, negative="")
        listing = read_source(source, settings)
        listing = listing._replace(notes=[*listing.notes, *notes])
        if config.classes is not None:
            return listing
        return select_findings(listing, {name: [name] for name in FINDINGS})
