"""PadChest: 160,000 radiographs labelled from Spanish reports (Bustos et al. 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, ReaderSettings
from cxr_tfds.sources.published import list_file_names, select_findings
from cxr_tfds.sources.tables.columns import find_column
from cxr_tfds.sources.tables.labels import split_label
from cxr_tfds.sources.tables.reader import NO_ROW, list_table_images
from cxr_tfds.sources.tables.table import Table

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
PROJECTIONS = ("PA", "AP", "AP_horizontal", "L", "COSTAL")
# The findings of NIH ChestX-ray14, with the labels that PadChest has for them.
FINDINGS: Mapping[str, Sequence[str]] = {
    "Atelectasis": (
        "atelectasis", "atelectasis basal", "laminar atelectasis", "lobar atelectasis",
        "round atelectasis", "segmental atelectasis", "total atelectasis",
    ),
    "Cardiomegaly": ("cardiomegaly",),
    "Consolidation": ("consolidation", "air bronchogram"),
    "Edema": ("pulmonary edema",),
    "Effusion": ("pleural effusion", "loculated pleural effusion", "loculated fissural effusion"),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("pulmonary fibrosis",),
    "Hernia": ("hiatal hernia",),
    "Infiltration": (
        "infiltrates", "alveolar pattern", "ground glass pattern", "interstitial pattern",
        "reticular interstitial pattern", "reticulonodular interstitial pattern",
    ),
    "Mass": ("mass", "pulmonary mass"),
    "Nodule": ("nodule", "multiple nodules"),
    "Pleural_Thickening": (
        "pleural thickening", "apical pleural thickening", "calcified pleural thickening",
    ),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
}  # fmt: skip
# These labels do not state which findings are absent.
UNUSABLE = ("exclude", "suboptimal study", "unchanged")


@dataclasses.dataclass(eq=False, kw_only=True)
class PadchestConfig(SourceConfig):
    """Adds the projections to the settings of `SourceConfig`.

    Attributes:
      projections: Values of the column Projection to read.

    Raises:
      InputError: A value is not allowed.
    """

    projections: Sequence[str] = ("PA", "AP", "AP_horizontal")

    def check(self) -> None:
        """Checks the settings."""
        super().check()
        given = self.projections
        is_list = isinstance(given, list | tuple)
        if not (is_list and given and all(name in PROJECTIONS for name in given)):
            raise InputError(f"projections={given!r}; expected a list of {', '.join(PROJECTIONS)}.")

    def stored(self) -> dict[str, object]:
        """Returns the settings that identify the dataset."""
        return super().stored() | {"projections": list(self.projections)}


class Builder(RadiographBuilder):
    """Builds `padchest`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = PadchestConfig
    READER = ReaderSettings(table=TABLE, image="ImageID", label="Labels", patient="PatientID")
    SEVERAL_FINDINGS = True
    CUTS_TEST = True
    HOMEPAGE = "https://bimcv.cipf.es/bimcv-projects/padchest/"
    PATIENT_NAMES = 'the column "PatientID"'
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
Request the data at https://bimcv.cipf.es/bimcv-projects/padchest/
Build it: tfds build padchest --imports cxr_tfds.builders --manual_dir FOLDER
FOLDER has {TABLE} and the images, in any folders."""

    def scan(self, source: Path) -> Listing:
        """Returns the images of the projections whose labels state what is absent."""
        config = self.builder_config
        settings = config.reader_settings(self.READER)
        if config.table is None:
            names = list_file_names(source)
            is_compressed = TABLE not in names and f"{TABLE}.gz" in names
            table = f"{TABLE}.gz" if is_compressed else TABLE
            settings = dataclasses.replace(settings, table=table)
        dropped: dict[str, str] = {}  # image to reason
        label = settings.label if isinstance(settings.label, str) else "Labels"

        def edit(table: Table) -> Table:
            columns = [settings.image or "ImageID", label, "Projection"]
            return _drop_rows(table, columns, config.projections, dropped)

        if config.classes is None and config.negative is None:
            # `select_findings` makes "normal" the absence of the findings.
            settings = dataclasses.replace(settings, negative="")
        listing = list_table_images(source, settings, edit)
        listing = listing._replace(left_out=_explain(listing.left_out, dropped))
        return listing if config.classes is not None else select_findings(listing, FINDINGS)


def _drop_rows(
    table: Table, columns: Sequence[str], projections: Sequence[str], dropped: dict[str, str]
) -> Table:
    """Returns a table without unusable rows; each of their images is added to `dropped`."""
    image, label, projection = (find_column(table, name) for name in columns)

    def read_rows() -> Iterator[tuple[int, list[str]]]:
        for line, cells in table.read_columns(range(len(table.columns))):
            labels = [text.casefold() for text in split_label(cells[label])]
            unusable = [name for name in UNUSABLE if name in labels]
            if cells[projection] not in projections:
                dropped[cells[image]] = f"projection {cells[projection] or '(empty)'}"
            elif unusable:
                dropped[cells[image]] = f"label {unusable[0]!r}"
            else:
                cells[label] = "" if labels == ["nan"] else "|".join(labels)
                yield line, cells

    return dataclasses.replace(table, read_rows=read_rows)


def _explain(
    left_out: Mapping[str, Sequence[str]], dropped: Mapping[str, str]
) -> dict[str, list[str]]:
    """Returns the files that were left out, with the reason of those whose row was dropped."""
    explained: dict[str, list[str]] = {}
    for reason, paths in left_out.items():
        for path in paths:
            found = dropped.get(PurePosixPath(path).name, reason) if reason == NO_ROW else reason
            explained.setdefault(found, []).append(path)
    return explained
