"""Adult chest radiographs with or without a lung opacity (RSNA challenge, Shih et al. 2019)."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TypedDict

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import InputError
from cxr_tfds.schema import parse_json
from cxr_tfds.sources import Listing, ReaderSettings
from cxr_tfds.sources.patients import find_patient
from cxr_tfds.sources.tables.columns import find_column
from cxr_tfds.sources.tables.files import SourceFile, walk_source
from cxr_tfds.sources.tables.opening import open_table
from cxr_tfds.sources.tables.reader import NO_ROW

DETAILS = "stage_2_detailed_class_info.csv"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"  # RSNA's ids to NIH's file names
FINDINGS = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")
UNLABELLED = "test images of the challenge, whose labels are not published"


class Builder(RadiographBuilder):
    """Builds `rsna_pneumonia`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = SourceConfig
    FINDINGS = FINDINGS
    READER = ReaderSettings(
        table="stage_2_train_labels.csv",
        image="patientId",
        label="Target",
        patient="patientId",
        classes={"No Lung Opacity": ["0"], "Lung Opacity": ["1"]},
        repeated_rows="any",
    )
    CUTS_TEST = True
    HOMEPAGE = "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge"
    PATIENT_NAMES = f'the column "patientId", or {MAPPING}'
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
Get the data: kaggle competitions download rsna-pneumonia-detection-challenge -p FOLDER
Build it:     tfds build rsna_pneumonia --imports cxr_tfds.builders --manual_dir FOLDER
Accept the rules of the challenge on Kaggle first. You do not have to extract the zip. The images
are DICOM files, which need the extra `dicom`. To keep the images of a person in one split, also get
https://s3.amazonaws.com/east1.public.rsna.org/AI/2018/{MAPPING}"""

    def scan(self, source: Path) -> Listing:
        """Returns the images, with the detailed class as finding, and the patients of NIH."""
        listing = super().scan(source)
        files = {file.path.name: file for file in walk_source(source)}
        notes = list(listing.notes)
        findings: dict[str, str] = {}
        if DETAILS in files:
            findings = _read_findings(files[DETAILS])
        else:
            notes.append(f"No {DETAILS}: the findings are unknown.")
        patients: dict[str, str] = {}
        if MAPPING in files:
            patients = _read_patients(files[MAPPING])
            notes.append(f"Patients from {MAPPING}.")
        else:
            notes.append(
                f"No {MAPPING}: each image counts as a patient, so images of one person may be in "
                "several splits."
            )
        images = [
            image._replace(
                finding=findings.get(name),
                patient_id=patients.get(name) or image.patient_id,
            )
            for name, image in ((PurePath(x.path.name).stem, x) for x in listing.images)
        ]
        left_out = {reason: list(names) for reason, names in listing.left_out.items()}
        for name in left_out.pop(NO_ROW, []):
            is_test = "stage_2_test_images" in name.split("/")
            left_out.setdefault(UNLABELLED if is_test else NO_ROW, []).append(name)
        return listing._replace(images=images, notes=notes, left_out=left_out)


def _read_findings(file: SourceFile) -> dict[str, str]:
    """Returns patientId to the detailed class.

    Raises InputError if a class is unknown, or an image has several.
    """
    findings: dict[str, str] = {}
    table = open_table(file.path, file.inner_path)
    positions = [find_column(table, column) for column in ("patientId", "class")]
    for line, (name, found) in table.read_columns(positions):
        if found not in FINDINGS:
            problem = f"the class {found!r}; expected {', '.join(FINDINGS)}"
        elif findings.setdefault(name, found) != found:
            problem = f"another class for {name} than before: {findings[name]}, then {found}"
        else:
            continue
        raise InputError(f"{file.inner_path}, line {line}: {problem}. Download it again.")
    return findings


class _NihImage(TypedDict):
    subset_img_id: str
    img_id: str


def _read_patients(file: SourceFile) -> dict[str, str]:
    """Returns RSNA's patientId to the patient in NIH's file name.

    Raises InputError if the file has another form.
    """
    advice = "Download it again, or remove it to do without the patients."
    content, name = file.path.read_bytes(), str(file.inner_path)
    rows = parse_json(content, list[_NihImage], name, advice, allow_unknown=True)
    return {row["subset_img_id"]: find_patient(row["img_id"]) for row in rows}
