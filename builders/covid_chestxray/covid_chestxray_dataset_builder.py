"""COVID-19 radiographs (Cohen et al. 2020) and normal radiographs of a Kaggle pneumonia folder."""

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
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, SourceImage, check_links, find_root
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.ieee8023 import (
    FINDINGS,
    TABLE,
    UNLABELLED,
    choose_images,
    read_table,
    split_terms,
)
from cxr_tfds.sources.normals import draw_normals, find_normals
from cxr_tfds.sources.walking import find_problem_of, walk_files

_EXPECTED = f"""\
Expected layout:
  {TABLE}
  images/*.jpg, *.jpeg, *.png
  chest_xray/          (normals: here, next to this folder, or set by the config)
    train/NORMAL/*.jpeg"""
_NORMALS = """\
Put the folder chest_xray of a Kaggle pneumonia set into the folder of metadata.csv or next to it:
  kaggle datasets download paultimothymooney/chest-xray-pneumonia
or give its path:"""
_FINDING = "COVID-19"


@dataclasses.dataclass(eq=False, kw_only=True)
class CovidChestxrayConfig(RadiographConfig):
    """Selects the images, and how they are stored and split.

    Attributes:
      view: One view, several separated by commas ("PA, AP"), or "any".
      modality: A modality of the table.
      finding: One term of a finding: "COVID-19" matches "COVID-19, ARDS" and
        "Pneumonia/Viral/COVID-19".
      normals: Folder or zip of a Kaggle pneumonia set, if it is neither in the folder of the table
        nor next to it.
      seed: Seed of the drawn normals.

    Raises:
      InputError: A value is not allowed, see also `RadiographConfig`.
    """

    view: str = "PA"
    modality: str = "X-ray"
    finding: str = _FINDING
    normals: str | None = None
    seed: int = 0

    def check(self) -> None:
        """Checks the settings. Raises InputError if a value is not allowed."""
        super().check()
        if self.split == "source":
            raise InputError(
                'split="source": the collection has no splits of its own. Remove the setting.'
            )
        for name in ("view", "modality", "finding"):
            if not (isinstance(value := getattr(self, name), str) and value.strip()):
                raise InputError(f"{name}={value!r}; expected text, as in {TABLE}.")
        terms = split_terms(self.finding)
        if len(terms) != 1 or terms & {UNLABELLED, "no finding", "unknown"}:
            raise InputError(
                f"finding={self.finding!r}; expected one finding, such as {_FINDING!r}."
            )
        if self.normals is not None and not (isinstance(self.normals, str) and self.normals):
            raise InputError(f"normals={self.normals!r}; expected a folder or zip, or null.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed={self.seed!r}; expected an integer.")

    def stored(self) -> dict[str, Any]:
        """Returns the settings that identify the dataset, without local paths."""
        path = self.normals and str(Path(self.normals).expanduser().resolve())
        digest = path and hashlib.sha256(path.encode()).hexdigest()[:16]
        own = {name: getattr(self, name) for name in ("view", "modality", "finding", "seed")}
        return super().stored() | own | {"normals_sha256": digest}


class Builder(RadiographBuilder):
    """Builds `covid_chestxray`, see README.md in this folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CONFIG = CovidChestxrayConfig
    CLASSES: Sequence[str] = ("NORMAL", "COVID")
    FINDINGS = FINDINGS
    CUTS_TEST = True
    HOMEPAGE = "https://github.com/ieee8023/covid-chestxray-dataset"
    PATIENT_NAMES = (
        f"the column patientid of {TABLE}; for normals IM-0115-0001.jpeg, NORMAL2-IM-0927-0001.jpeg"
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Get the data: git clone --depth 1 https://github.com/ieee8023/covid-chestxray-dataset FOLDER
and normals:  kaggle datasets download paultimothymooney/chest-xray-pneumonia -p FOLDER
Build it:     tfds build covid_chestxray --imports cxr_tfds.builders --manual_dir FOLDER
You do not have to extract the zip."""

    def _info(self) -> tfds.core.DatasetInfo:
        finding = self.builder_config.finding.strip()
        if finding.casefold() != _FINDING.casefold():
            self.CLASSES = ("NORMAL", finding)
        return super()._info()

    def scan(self, source: Path) -> Listing:
        """Returns the selected images of the table and as many normals."""
        config = self.builder_config
        root = find_root(
            source, _EXPECTED, lambda folder: (folder / TABLE).is_file(), content=TABLE
        )
        check_links(source, [root / TABLE])
        rows = read_table(root / TABLE)
        paths = {
            f"{folder}/{inner_path}": path
            for folder in sorted({row.folder for row in rows})
            if (root / folder).is_dir()
            for inner_path, path in walk_files(root / folder, nested=True, source=source)
        }
        for name, path in paths.items():
            if name.endswith("/"):
                logging.warning("%s: %s.", name, find_problem_of(path))
        images, notes = choose_images(
            rows,
            paths,
            view=config.view,
            modality=config.modality,
            finding=config.finding.strip(),
            label=self.CLASSES[1],
        )
        if config.modality.casefold() != "x-ray":
            notes.append(
                f"Modality {config.modality} and radiographs: the modality alone reveals the class."
            )
        normals, more_notes = self._draw_normals(source, len(images))
        return Listing(images + normals, tuple(self.CLASSES), notes=notes + more_notes)

    def _draw_normals(self, source: Path, count: int) -> tuple[list[SourceImage], list[str]]:
        config = self.builder_config
        folders = [source, source.absolute().parent / "chest_xray"]
        if config.normals is not None:
            folders = [Path(config.normals).expanduser()]
        hint = f"{_NORMALS} {propose_config(normals='/path/to/it')}"
        _, found = find_normals(folders, hint)
        drawn = draw_normals(found, count, config.seed)
        patients = len({image.patient_id or image.image_id for image in drawn})
        notes = [
            f"{len(drawn)} of {len(found)} normal radiographs, of {patients} patients, were drawn "
            f"from a Kaggle pneumonia set (seed {config.seed}).",
            "The normals are children, the others mostly adults: a model can succeed by "
            "recognizing age. See README.md.",
        ]
        if len(drawn) < count:
            logging.warning(
                "Only %d normal radiographs for %d of %s.", len(drawn), count, self.CLASSES[1]
            )
        # The split is part of the id because a file name may occur in two splits.
        return [
            image._replace(split="train", image_id=f"NORMAL/{image.split}/{image.path.name}")
            for image in drawn
        ], notes
