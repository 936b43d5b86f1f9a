"""PneumoniaMNIST: paediatric chest radiographs, normal or pneumonia (Yang et al. 2023)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources import Listing, ReaderSettings, check_links
from cxr_tfds.sources.paths import join_names, list_children

NAME = "pneumoniamnist"  # pneumoniamnist.npz, pneumoniamnist_224.npz
NOTE = (
    "The source cut validation from train by image and gives no patients, so both may have images "
    "of one patient."
)


@dataclasses.dataclass(eq=False, kw_only=True)
class MedmnistConfig(SourceConfig):
    """Keeps the source's own splits unless `split` is given: they are the benchmark."""

    split: str = "source"


class Builder(RadiographBuilder):
    """Builds `medmnist_pneumonia`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = MedmnistConfig
    READER = ReaderSettings(classes={"normal": ["0"], "pneumonia": ["1"]})
    HOMEPAGE = "https://medmnist.com"
    PATIENT_NAMES = "none: the images of an npz have no names"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: pneumoniamnist.npz (28 x 28 pixels), or pneumoniamnist_224.npz and other sizes, from
              https://zenodo.org/records/10519652
Build it:     tfds build medmnist_pneumonia --imports cxr_tfds.builders --manual_dir FOLDER
FOLDER has one of these files, or is its path."""

    def scan(self, source: Path) -> Listing:
        """Returns the images of the npz. Other sets of MedMNIST in the folder are ignored."""
        if source.is_file() and not source.name.startswith(NAME):
            raise InputError(
                f"{source} is not named like PneumoniaMNIST: {NAME}.npz or {NAME}_224.npz. Build "
                "other sets of MedMNIST as xray_folder."
            )
        if source.is_dir():
            own = [
                source / path.name
                for path in list_children(source)
                if path.name.startswith(NAME) and path.name.endswith(".npz")
            ]
            if not own:
                raise MissingData(f"No {NAME}*.npz in {source}.")
            if len(own) > 1:
                raise InputError(
                    f"{source} contains {join_names([path.name for path in own])}: the same images "
                    f"in several sizes. Give the path of one: --manual_dir {own[-1]}"
                )
            check_links(source, own)
            source = own[0]
        listing = super().scan(source)
        images = [image._replace(finding=None) for image in listing.images]
        return listing._replace(images=images, findings=(), notes=[*listing.notes, NOTE])
