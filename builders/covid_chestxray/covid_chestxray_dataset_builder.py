"""COVID-19 radiographs (Cohen et al. 2020) against normals drawn from a Kaggle pneumonia folder."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources import Place, SourceImage, check_links, open_source, search
from cxr_tfds.sources.ieee8023 import FINDINGS, TABLE, UNLABELLED, choose, read_table, terms
from cxr_tfds.sources.layout import expect_single
from cxr_tfds.sources.normals import draw_normals, find_normals, normal_patient
from cxr_tfds.sources.places import children, listing

_LAYOUT = f"""\
Expected layout:
  {TABLE}
  images/*.jpg, *.jpeg, *.png
  chest_xray/          (normals: here, beside this folder, or named by the config)
    train/NORMAL/*.jpeg"""
_NORMALS = """\
Put the folder chest_xray of a Kaggle pneumonia set (kaggle datasets download paultimothymooney/chest-xray-pneumonia)
into the folder of metadata.csv or beside it, or name it: --config '{"name": "224-mine", "normals": "/path/to/it"}'"""
_FINDING = "COVID-19"


@dataclasses.dataclass(eq=False, kw_only=True)
class CovidChestxrayConfig(RadiographConfig):
    """Which images of the collection are taken, and how they are stored and split.

    Attributes:
      view: one view, several with commas between them ("PA, AP"), or "any".
      modality: as in the table.
      finding: a part of what the table says: "COVID-19" is in "COVID-19, ARDS" and "Pneumonia/Viral/COVID-19".
      normals: folder or zip of a Kaggle pneumonia set, where it is not in or beside the folder of the table.
      seed: of the draw among the normals.

    Raises:
      InputError: a value is not as described, see also `RadiographConfig`.
    """

    view: str = "PA"
    modality: str = "X-ray"
    finding: str = _FINDING
    normals: str | None = None
    seed: int = 0

    def check(self) -> None:
        super().check()
        if self.split == "source":
            raise InputError(
                'split="source": the collection has no splits of its own. Leave the setting out.'
            )
        for name in ("view", "modality", "finding"):
            if not (isinstance(value := getattr(self, name), str) and value.strip()):
                raise InputError(f"{name}={value!r}; expected a text, as in {TABLE}.")
        if (
            terms(self.finding) & {UNLABELLED, "no finding", "unknown"}
            or len(terms(self.finding)) != 1
        ):
            raise InputError(
                f"finding={self.finding!r}; expected one finding, such as {_FINDING!r}."
            )
        if self.normals is not None and not (isinstance(self.normals, str) and self.normals):
            raise InputError(f"normals={self.normals!r}; expected a folder or zip, or null.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed={self.seed!r}; expected a whole number.")

    def stored(self) -> dict[str, Any]:
        # Another folder of normals makes another dataset, but a local path stays out of it.
        normals = (
            self.normals
            and hashlib.sha256(str(Path(self.normals).expanduser().resolve()).encode()).hexdigest()
        )
        chosen = {name: getattr(self, name) for name in ("view", "modality", "finding", "seed")}
        return super().stored() | chosen | {"normals_sha256": normals and normals[:16]}


class Builder(RadiographBuilder):
    """Builder of `covid_chestxray`; see README.md beside this file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    BUILDER_CONFIGS = [
        CovidChestxrayConfig(name="224", description="224 x 224 greyscale, raw uint8")
    ]
    builder_config: CovidChestxrayConfig
    CLASSES: Sequence[str] = ("NORMAL", "COVID")
    FINDINGS = FINDINGS
    CUTS_TEST = True
    HOMEPAGE = "https://github.com/ieee8023/covid-chestxray-dataset"
    PATIENT_NAMES = (
        f"the column patientid of {TABLE}; of normals IM-0115-0001.jpeg, NORMAL2-IM-0927-0001.jpeg"
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: git clone --depth 1 https://github.com/ieee8023/covid-chestxray-dataset FOLDER
and normals:  kaggle datasets download paultimothymooney/chest-xray-pneumonia -p FOLDER
Then build it, the zip as it is: tfds build covid_chestxray --imports cxr_tfds.builders --manual_dir FOLDER"""

    def _info(self) -> tfds.core.DatasetInfo:
        finding = self.builder_config.finding.strip()
        if finding.casefold() != _FINDING.casefold():
            self.CLASSES = ("NORMAL", finding)
        return super()._info()

    def scan(self, source: Path) -> list[SourceImage]:
        config = self.builder_config
        root = _table_folder(source)
        check_links(source, [root / TABLE])
        rows = read_table((root / TABLE).read_bytes())
        places = {
            f"{folder}/{place.name}": place
            for folder in sorted({row.folder for row in rows})
            if (root / folder).is_dir()
            for place in children(root / folder)
            if place.is_file()
        }
        chosen, notes = choose(
            rows, places, view=config.view, modality=config.modality, finding=config.finding.strip()
        )
        images = [
            SourceImage(
                places[image.place],
                "train",
                self.CLASSES[1],
                image.finding,
                f"{self.CLASSES[1]}/{image.place}",
                image.patient_id,
            )
            for image in chosen
        ]
        self.notes += notes
        if config.modality.casefold() != "x-ray":
            self.notes.append(
                f"Modality {config.modality} against radiographs: the modality alone tells the class."
            )
        return images + self._normals(source, len(images))

    def _normals(self, source: Path, count: int) -> list[SourceImage]:
        if self.builder_config.normals is None:
            looked = [source, source.absolute().parent / "chest_xray"]
        else:
            looked = [Path(self.builder_config.normals).expanduser()]
        self._normals_folder, files = find_normals(looked, _NORMALS)
        drawn = draw_normals(files, count, self.builder_config.seed)
        patients = len({normal_patient(file) or file.image_id for file in drawn})
        self.notes.append(
            f"{len(drawn)} of {len(files)} normal radiographs of {patients} patients were drawn from a Kaggle "
            f"pneumonia set (seed {self.builder_config.seed})."
        )
        if len(drawn) < count:
            logging.warning(
                "Only %d normal radiographs for %d of %s.", len(drawn), count, self.CLASSES[1]
            )
        self.notes.append(
            "The normals are children, the others mostly adults: a model can succeed by telling age. See README.md."
        )
        return [
            SourceImage(
                file.path,
                "train",
                self.CLASSES[0],
                "none",
                f"NORMAL/{_in_split(file)}",
                normal_patient(file),
            )
            for file in drawn
        ]

    def check_links(self, source: Path, images: Sequence[SourceImage]) -> None:
        drawn = [image.path for image in images if image.label == self.CLASSES[0]]
        check_links(self._normals_folder, drawn)
        check_links(source, (image.path for image in images if image.label != self.CLASSES[0]))


def _in_split(file: Any) -> str:
    """Split and name: a name may stand in two splits of the Kaggle set."""
    return f"{file.split}/{file.path.name}"


def _table_folder(source: Path) -> Place:
    """The folder that holds the table.

    Raises:
      MissingData: there is none, or no folder of images beside it.
      InputError: there are several.
    """
    try:
        places = open_source(source)
    except MissingData as err:
        raise MissingData(f"{err}\n{_LAYOUT}") from None
    for top in places:
        if found := search(top, lambda folder: (folder / TABLE).is_file()):
            return expect_single(found, source)
    raise MissingData(f"No {TABLE} in {source}\nFound there: {listing(places[-1])}\n{_LAYOUT}")
