"""Draws many different radiographs quickly, in the layouts of two datasets, for benchmarks.

A few phantoms are drawn. Each file is one of them with a number of its own in squares, so no two
files are equal. All layouts link to the same files, so they differ in nothing but names and
labels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
import numpy as np
from PIL import Image

from cxr_tfds.parallel import core_count

DISTINCT = 240  # phantoms that the files are made of
IMAGES_OF_A_PATIENT = 4  # NIH ChestX-ray14 has 112,120 images of 30,805 patients
TEST_SHARE = 0.23  # of the patients, as in the official split of NIH ChestX-ray14
# Of 112,120 images 60,361 have no finding; the others have one or several of 14.
LABELS = (
    "No Finding", "Infiltration", "No Finding", "Effusion|Infiltration", "No Finding",
    "Atelectasis", "No Finding", "Nodule|Mass", "No Finding", "Pneumothorax", "No Finding",
    "Cardiomegaly|Effusion", "No Finding", "Consolidation",
)  # fmt: skip
_SIDE = 16  # pixels of a square
_BITS = 12  # of the number of a copy of a phantom


def draw_files(folder: Path, count: int, distinct: int = DISTINCT) -> list[Path]:
    """Returns `count` different JPEG files in `folder`; draws them unless they exist."""
    files = [folder / f"{number:06}.jpeg" for number in range(count)]
    if not folder.is_dir() or sum(1 for _ in folder.iterdir()) != count:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        phantoms = measure.phantoms(measure.WORK / f"phantoms_{distinct}", distinct)
        originals = [np.asarray(Image.open(path).convert("L")) for path in phantoms]
        with ThreadPoolExecutor(core_count()) as pool:
            jobs = (
                pool.submit(_write, originals[n % len(originals)], n // len(originals), path)
                for n, path in enumerate(files)
            )
            for job in list(jobs):
                job.result()
    return files


def _write(original: np.ndarray, number: int, path: Path) -> None:
    """Writes a phantom with its own number: a black or white square for each bit."""
    pixels = original.copy()
    for bit in range(_BITS):
        left = bit * _SIDE
        pixels[:_SIDE, left : left + _SIDE] = 255 * (number >> bit & 1)
    Image.fromarray(pixels).save(path, "JPEG", quality=75)


def link_kaggle(files: Sequence[Path], folder: Path) -> Path:
    """Links files in the layout and with the names of the Kaggle pneumonia set."""
    links = []
    for number in range(len(files)):
        patient, view = divmod(number, IMAGES_OF_A_PATIENT)
        split = "test" if _is_test(patient) else "train"
        if patient % 2:
            name = f"PNEUMONIA/person{patient}_bacteria_{number}.jpeg"
        else:
            name = f"NORMAL/IM-{patient:05}-{view:04}.jpeg"
        links.append(f"chest_xray/{split}/{name}")
    return _link(files, links, folder)


def link_nih(files: Sequence[Path], folder: Path) -> Path:
    """Links files in the layout and with the table of NIH ChestX-ray14."""
    links, rows = [], ["Image Index,Finding Labels,Follow-up #,Patient ID"]
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    for number in range(len(files)):
        patient, view = divmod(number, IMAGES_OF_A_PATIENT)
        name = f"{patient + 1:08}_{view:03}.jpeg"
        links.append(f"images_{number // 10_000 + 1:03}/images/{name}")
        rows.append(f"{name},{LABELS[number % len(LABELS)]},{view},{patient + 1}")
        lists["test_list.txt" if _is_test(patient) else "train_val_list.txt"].append(name)
    _link(files, links, folder)
    for name, lines in ({"Data_Entry_2017.csv": rows} | lists).items():
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder


def _is_test(patient: int) -> bool:
    return int((patient + 1) * TEST_SHARE) > int(patient * TEST_SHARE)


def _link(files: Sequence[Path], links: Sequence[str], folder: Path) -> Path:
    """Makes hard links, because symbolic links must not lead out of a source."""
    if not folder.is_dir() or sum(1 for x in folder.rglob("*.jpeg")) != len(links):
        shutil.rmtree(folder, ignore_errors=True)
        for file, link in zip(files, links, strict=True):
            (folder / link).parent.mkdir(parents=True, exist_ok=True)
            os.link(file, folder / link)
    return folder
