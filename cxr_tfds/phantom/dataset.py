"""A drawn dataset in the layout and with the names of the Kaggle chest-xray-pneumonia set."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cxr_tfds import __version__
from cxr_tfds.errors import InputError
from cxr_tfds.phantom.drawing import draw, draw_anatomy
from cxr_tfds.sources.kermany import FINDINGS

SPLITS = ("train", "val", "test")
CLASSES = ("NORMAL", "PNEUMONIA")
ROOT = "chest_xray"
SETTINGS_FILE = "phantom.json"
NORMAL_SHARE = 0.4  # of the images that `images_per_split` plans; the original test split has 0.375
_BACTERIA_SHARE = 0.6  # of the pneumonia patients; 0.65 of the original images
_PATIENT, _IMAGE, _PLAN = range(3)  # streams of random numbers under one seed
_EXPECTED = f"splits {', '.join(SPLITS)} and classes {', '.join(CLASSES)}"


class Item(NamedTuple):
    """One image to draw."""

    path: str  # below chest_xray/, "/" between the parts
    finding: str  # one of FINDINGS
    patient: int  # unique over the dataset
    serial: int  # unique over the dataset


def write_dataset(
    out: Path,
    *,
    images: Mapping[str, Mapping[str, int]],
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> dict[str, dict[str, int]]:
    """Draws `out`/chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg, named as in the Kaggle set.

    Everything is drawn beside `out` and renamed at the end, so a broken run leaves `out` as it was.
    `out`/phantom.json keeps the settings; other files in `out` stay as they are.

    Args:
      images: how many images of each class in each split; a split or class not named gets none.
      seed: of everything; 0 or more.
      overwrite: replace what stands in `out`, provided it was drawn by this function.
      progress: called with 1 after each image.

    Returns:
      The number of images written, by split and class.

    Raises:
      InputError: a split, class, count or the seed is not allowed, or `out` holds something that may
        not be replaced.
    """
    items = list(plan(images, seed))
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; expected a folder to write to.")
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            raise InputError(
                f"{out} exists and is not empty; choose another folder, or overwrite it."
            )
        if not (out / SETTINGS_FILE).is_file():
            raise InputError(
                f"{out} holds no {SETTINGS_FILE}: it was not drawn here, so it is not replaced."
            )
    counts = {
        split: {name: images.get(split, {}).get(name, 0) for name in CLASSES} for split in SPLITS
    }
    settings = {"drawn_by": f"cxr-tfds {__version__}", "seed": seed, "images": counts}
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        for split in SPLITS:
            for name in CLASSES:
                (beside / ROOT / split / name).mkdir(parents=True)
        for item in items:
            _write_image(beside / ROOT / item.path, item, seed)
            if progress:
                progress(1)
        (beside / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        if not out.exists():
            beside.rename(out)
            return counts
        if (out / ROOT).exists():
            (out / ROOT).rename(beside / "old")
        for name in (ROOT, SETTINGS_FILE):
            (beside / name).replace(out / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return counts


def images_per_split(train: int, test: int) -> dict[str, dict[str, int]]:
    """Counts for `write_dataset`: the two totals at 40% NORMAL, and the original's token val, 8 of each."""
    counts = {}
    for split, total in (("train", train), ("val", 16), ("test", test)):
        normal = 8 if split == "val" else round(NORMAL_SHARE * total)
        counts[split] = {"NORMAL": normal, "PNEUMONIA": total - normal}
    return counts


def plan(images: Mapping[str, Mapping[str, int]], seed: int) -> Iterator[Item]:
    """Names every image of a dataset and gives it a patient; each patient is in one split.

    As in the original, a number N alone is no patient: personN_bacteria and personN_virus are two.

    Raises:
      InputError: see `write_dataset`.
    """
    if seed < 0:
        raise InputError(f"seed={seed}; expected 0 or more.")
    for split, classes in images.items():
        if split not in SPLITS or not set(classes) <= set(CLASSES):
            raise InputError(f"images[{split!r}] names {', '.join(classes)}; expected {_EXPECTED}.")
        if min(classes.values(), default=0) < 0:
            raise InputError(f"images[{split!r}]={dict(classes)}; expected counts of 0 or more.")
    patients = dict.fromkeys(FINDINGS, 0)
    drawn = person = 0
    for split in SPLITS:
        for label, name in enumerate(CLASSES):
            rng = np.random.default_rng([seed, _PLAN, SPLITS.index(split), label])
            left = images.get(split, {}).get(name, 0)
            while left:
                finding = (
                    "none"
                    if not label
                    else "bacteria"
                    if rng.random() < _BACTERIA_SHARE
                    else "virus"
                )
                prefix = "NORMAL2-IM" if rng.random() < 0.6 else "IM"
                patients[finding] += 1
                number = patients[finding]
                for nth in range(
                    1, 1 + min(left, int(rng.choice(4, p=(0.6, 0.2, 0.12, 0.08))) + 1)
                ):
                    person += label
                    stem = (
                        f"person{number}_{finding}_{person}"
                        if label
                        else f"{prefix}-{number:04}-{nth:04}"
                    )
                    yield Item(
                        f"{split}/{name}/{stem}.jpeg", finding, sum(patients.values()), drawn
                    )
                    drawn += 1
                    left -= 1


def _write_image(path: Path, item: Item, seed: int) -> None:
    anatomy = draw_anatomy(np.random.default_rng([seed, _PATIENT, item.patient]))
    rng = np.random.default_rng([seed, _IMAGE, item.serial])
    quality = int(rng.integers(70, 96))
    Image.fromarray(draw(item.finding, rng, anatomy=anatomy)).save(path, "JPEG", quality=quality)
