"""CheXpert-v1.0-small: radiographs with observations mined from reports (Irvin et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, ReaderSettings
from cxr_tfds.sources.published import list_known_columns

# In the order of the table. "No Finding" is read as the absence of the others, unless the setting
# `negative` is "".
OBSERVATIONS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip

VIEWS = ("frontal", "lateral")  # part of each file name


@dataclasses.dataclass(eq=False, kw_only=True)
class ChexpertConfig(SourceConfig):
    """Adds the views to the settings of `SourceConfig`.

    Attributes:
      views: The views to read, of "frontal" and "lateral".

    Raises:
      InputError: A value is not allowed.
    """

    views: Sequence[str] = ("frontal",)

    def check(self) -> None:
        """Checks the settings."""
        super().check()
        given = self.views
        is_list = isinstance(given, list | tuple)
        if not (is_list and given and all(view in VIEWS for view in given)):
            raise InputError(f"views={given!r}; expected a list of {', '.join(VIEWS)}.")

    def stored(self) -> dict[str, object]:
        """Returns the settings that identify the dataset."""
        return super().stored() | {"views": list(self.views)}


class Builder(RadiographBuilder):
    """Builds `chexpert_small`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = ChexpertConfig
    READER = ReaderSettings(
        table={"train": "train.csv", "validation": "valid.csv"},
        image="Path",
        label=OBSERVATIONS,
    )
    SEVERAL_FINDINGS = True
    HOMEPAGE = "https://stanfordmlgroup.github.io/competitions/chexpert/"
    PATIENT_NAMES = "patient00001/study1/view1_frontal.jpg"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Accept the research use agreement at https://stanfordmlgroup.github.io/competitions/chexpert/ and
download CheXpert-v1.0-small.
Build it: tfds build chexpert_small --imports cxr_tfds.builders --manual_dir FOLDER
FOLDER has train.csv, valid.csv, train/ and valid/, or CheXpert-v1.0-small/ with them."""

    def scan(self, source: Path) -> Listing:
        """Returns the images. valid.csv is test, or validation with the source's splits."""
        config = self.builder_config
        settings = config.reader_settings(self.READER)
        others = [f"*_{view}.*" for view in VIEWS if view not in config.views]
        settings = dataclasses.replace(settings, exclude=[*settings.exclude, *others])
        if config.table is None and config.split != "source":
            # Radiologists labelled valid.csv, so its images never join the training images.
            table = {"train": "train.csv", "test": "valid.csv"}
            settings = dataclasses.replace(settings, table=table)
        return list_known_columns(source, settings)
