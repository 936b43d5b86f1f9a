"""Draws a dataset with the layout and file names of the Kaggle chest-xray-pneumonia set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cxr_tfds import __version__
from cxr_tfds.errors import InputError
from cxr_tfds.files import (
    check_new_folder,
    complete_files,
    complete_folder,
    format_json,
    list_folder,
)
from cxr_tfds.phantom.drawing import draw, draw_anatomy
from cxr_tfds.sources.kermany import FINDINGS

SPLITS = ("train", "val", "test")
CLASSES = ("NORMAL", "PNEUMONIA")
ROOT = "chest_xray"
_SETTINGS_FILE = "phantom.json"
_NORMAL_SHARE = 0.4  # of the images; the original test split has 0.375
_BACTERIA_SHARE = 0.6  # of the pneumonia patients; 0.65 of the original images
_README = """\
Phantoms: chest radiographs drawn by cxr-tfds to try the software. They show nobody. A model trained
on them proves that the software works, nothing else.

- **Licence**: Apache 2.0
- **Population**: none; no patient was X-rayed
- **Drawn**: true
"""
_PATIENT, _IMAGE, _PLAN = range(3)  # random streams of one seed


class _PlannedImage(NamedTuple):
    """One image to draw."""

    path: str  # below chest_xray/, with "/" between the parts
    finding: str  # one of `FINDINGS`
    patient: int  # unique in the dataset
    serial: int  # unique in the dataset


def write_dataset(
    out: Path,
    *,
    images: Mapping[str, Mapping[str, int]],
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> dict[str, dict[str, int]]:
    """Draws `out`/chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg, named as on Kaggle.

    The images appear in `out` when all are drawn, so an interrupted run leaves `out` unchanged.
    `out`/phantom.json holds the settings, and `out`/chest_xray/README.md states that the images are
    drawn. Other files in `out` are kept.

    Args:
      out: The folder to write to.
      images: Number of images of each class in each split; by default 0.
      seed: Of everything; 0 or more.
      overwrite: Whether to replace a dataset drawn by this function.
      progress: Called with 1 after each image.

    Returns:
      The number of images written, by split and class.

    Raises:
      InputError: `out` holds something that must not be replaced, or cannot be written.
    """
    out = out.resolve()
    counts = {
        split: {name: images.get(split, {}).get(name, 0) for name in CLASSES} for split in SPLITS
    }
    root, settings_file = out / ROOT, out / _SETTINGS_FILE
    with complete_files() as add, complete_folder(root) as new:
        _check_replaceable(out, overwrite=overwrite)
        for split in SPLITS:
            for name in CLASSES:
                (new / split / name).mkdir(parents=True)
        for image in _plan_images(counts, seed):
            _write_image(new / image.path, image, seed)
            if progress:
                progress(1)
        (new / "README.md").write_text(_README, encoding="utf-8")
        settings = {"drawn_by": f"cxr-tfds {__version__}", "seed": seed, "images": counts}
        add(settings_file).write_text(format_json(settings), encoding="utf-8")
    return counts


def _check_replaceable(out: Path, *, overwrite: bool) -> None:
    check_new_folder(out, overwrite=overwrite)
    if list_folder(out) and not (out / _SETTINGS_FILE).is_file():
        raise InputError(
            f"{out} contains no {_SETTINGS_FILE}, so it was not drawn by cxr-tfds and is not "
            "replaced. Choose another folder."
        )


def images_per_split(train: int, test: int) -> dict[str, dict[str, int]]:
    """Returns counts for `write_dataset`: 40% NORMAL, and a val split of 8 images a class."""
    counts = {}
    for split, total in (("train", train), ("val", 16), ("test", test)):
        normal = 8 if split == "val" else round(_NORMAL_SHARE * total)
        counts[split] = {"NORMAL": normal, "PNEUMONIA": total - normal}
    return counts


def _plan_images(counts: dict[str, dict[str, int]], seed: int) -> Iterator[_PlannedImage]:
    """Yields every image of a dataset with its patient; each patient is in one split.

    As in the original, the number alone does not identify a patient: personN_bacteria and
    personN_virus are two.
    """
    patients = dict.fromkeys(FINDINGS, 0)
    serial = person = 0
    for split_number, split in enumerate(SPLITS):
        for label, name in enumerate(CLASSES):
            rng = np.random.default_rng([seed, _PLAN, split_number, label])
            left = counts[split][name]
            while left:
                finding = "none"
                if label:
                    finding = "bacteria" if rng.random() < _BACTERIA_SHARE else "virus"
                prefix = "NORMAL2-IM" if rng.random() < 0.6 else "IM"
                patients[finding] += 1
                number = patients[finding]
                count = min(left, int(rng.choice(4, p=(0.6, 0.2, 0.12, 0.08))) + 1)
                for nth in range(1, count + 1):
                    person += label
                    stem = f"{prefix}-{number:04}-{nth:04}"
                    if label:
                        stem = f"person{number}_{finding}_{person}"
                    path = f"{split}/{name}/{stem}.jpeg"
                    yield _PlannedImage(path, finding, sum(patients.values()), serial)
                    serial += 1
                left -= count


def _write_image(path: Path, planned: _PlannedImage, seed: int) -> None:
    anatomy = draw_anatomy(np.random.default_rng([seed, _PATIENT, planned.patient]))
    rng = np.random.default_rng([seed, _IMAGE, planned.serial])
    quality = int(rng.integers(70, 96))
    Image.fromarray(draw(planned.finding, rng, anatomy=anatomy)).save(path, "JPEG", quality=quality)
