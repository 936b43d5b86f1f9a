"""VinDr-CXR: 18,000 radiographs, each read by several radiologists (Nguyen et al. 2022)."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, ReaderSettings
from cxr_tfds.sources.published import list_file_names, list_known_columns
from cxr_tfds.sources.tables.columns import find_column
from cxr_tfds.sources.tables.table import SAMPLE_ROWS, Table
from cxr_tfds.text import did_you_mean

COLUMNS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture",
    "Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity",
    "Lung cavity", "Lung cyst", "Mediastinal shift", "Nodule/Mass", "Pleural effusion",
    "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture", "Other lesion",
    "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding",
)  # fmt: skip
_OTHER_NAMES = {"Other disease": "Other diseases"}  # of the columns of image_labels_test.csv
_BOXES = {"class_name", "rad_id"}  # columns of a table with one row for each box
_TABLES = {"train": "image_labels_train.csv", "test": "image_labels_test.csv"}
_KAGGLE_TABLE = "train.csv"
_VOTES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0}


class Builder(RadiographBuilder):
    """Builds `vindr_cxr`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = SourceConfig
    READER = ReaderSettings(
        table=_TABLES,
        image="image_id",
        label=COLUMNS,
    )
    SEVERAL_FINDINGS = True
    CUTS_TEST = True  # Kaggle's test images have no labels
    HOMEPAGE = "https://physionet.org/content/vindr-cxr/1.0.0/"
    PATIENT_NAMES = "none, because the dataset does not state its patients"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get access to https://physionet.org/content/vindr-cxr/1.0.0/ and download it.
Build it: tfds build vindr_cxr --imports cxr_tfds.builders --manual_dir FOLDER
FOLDER has train/, test/, and annotations/ with image_labels_train.csv and image_labels_test.csv.
Or get the part on Kaggle: kaggle competitions download \\
    vinbigdata-chest-xray-abnormalities-detection -p FOLDER
FOLDER then has train.csv and train/, with the DICOM files or a resized copy."""

    def scan(self, source: Path) -> Listing:
        """Returns the images; without the setting `repeated_rows`, most readers decide."""
        config = self.builder_config
        settings = config.reader_settings(self.READER)
        decides_majority = config.repeated_rows is None
        names = list_file_names(source) if config.table is None else set()
        if _KAGGLE_TABLE in names and names.isdisjoint(_TABLES.values()):
            settings = dataclasses.replace(settings, table=_KAGGLE_TABLE)

        def edit(table: Table) -> Table:
            if _BOXES.issubset(table.columns):
                table = combine_boxes(table, config.image or "image_id")
            columns = tuple(_OTHER_NAMES.get(name, name) for name in table.columns)
            table = dataclasses.replace(table, columns=columns)
            return take_majority(table, config.image or "image_id") if decides_majority else table

        listing = list_known_columns(source, settings, edit)
        if not decides_majority:
            return listing
        rule = (
            "A finding is present if more than half of the readers of an image mark it, and "
            "uncertain if exactly half do."
        )
        return listing._replace(notes=[*listing.notes, rule])


def combine_boxes(table: Table, image: str) -> Table:
    """Returns a table with one row for each image and reader, and 1 or 0 for each class.

    Args:
      table: One row for each box that a reader drew, or "No finding", in the column class_name.
      image: Name of the column with the image.

    Raises:
      InputError: A class is not one of `COLUMNS`.
    """
    found: dict[tuple[str, str], tuple[int, set[str]]] = {}
    positions = [find_column(table, column) for column in (image, "rad_id", "class_name")]
    for line, (name, reader, label) in table.read_columns(positions):
        if label not in COLUMNS:
            near = difflib.get_close_matches(label, COLUMNS, cutoff=0)
            raise InputError(f"{table.name}, line {line}: {did_you_mean(label, near)}")
        found.setdefault((name, reader), (line, set()))[1].add(label)
    known = set().union(*(labels for _, labels in found.values()))
    columns = [column for column in COLUMNS if column in known]
    rows = [
        (line, [name, reader, *("1" if column in labels else "0" for column in columns)])
        for (name, reader), (line, labels) in found.items()
    ]
    return dataclasses.replace(
        table,
        columns=(image, "rad_id", *columns),
        read_rows=lambda: iter(rows),
        sample=tuple(cells for _, cells in rows[:SAMPLE_ROWS]),
    )


def take_majority(table: Table, image: str) -> Table:
    """Returns a table with one row for each image: the votes of its readers on each finding.

    Args:
      table: One row for each image and reader, with 1 or 0 for each of `COLUMNS`.
      image: Name of the column with the image.
    """
    name = find_column(table, image)
    findings = [i for i, column in enumerate(table.columns) if column in COLUMNS]

    def read_rows() -> Iterator[tuple[int, list[str]]]:
        groups: dict[str, list[tuple[int, list[str]]]] = {}
        for line, cells in table.read_columns(range(len(table.columns))):
            groups.setdefault(cells[name], []).append((line, cells))
        for rows in groups.values():
            line, first = rows[0]
            combined = list(first)
            for i in findings:
                combined[i] = _vote([cells[i] for _, cells in rows])
            yield line, combined

    return dataclasses.replace(table, read_rows=read_rows)


def _vote(cells: Sequence[str]) -> str:
    """Returns 1, 0, -1 for a tie, or "" without votes; another value is left to the reader."""
    if unknown := [cell for cell in cells if cell and cell not in _VOTES]:
        return unknown[0]
    votes = [_VOTES[cell] for cell in cells if cell]
    if not votes:
        return ""
    balance = 2 * sum(votes) - len(votes)
    return "1" if balance > 0 else "0" if balance < 0 else "-1"
