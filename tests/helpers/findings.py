"""A drawn source whose images may have several findings, and the dataset built from it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FINDINGS = ("Nodule", "Effusion", "Device")
TABLE = "labels.csv"
# Settings of the builder `xray_table`.
SETTINGS: dict[str, Any] = {
    "table": TABLE,
    "image": "Path",
    "patient": "Patient",
    "split_column": "Split",
    "split": "source",
    "label": list(FINDINGS),
}
COUNTS = {"train": 96, "validation": 48, "test": 48}
_SIDE = 64
# Of each finding: where it is present, a mark is drawn here.
_ROWS, _COLUMNS = np.indices((_SIDE, _SIDE))
_MARKS = {
    "Nodule": (_ROWS - 18) ** 2 + (_COLUMNS - 18) ** 2 < 64,
    "Effusion": _ROWS > 50,
    "Device": abs(_COLUMNS - 46) < 2,
}


def draw_findings_source(folder: Path, *, unstated: float = 0.2, seed: int = 0) -> Path:
    """Draws 64 x 64 images and a table like CheXpert's with three findings.

    Each finding is present in half of the images as a mark. The cells of the table are 1, 0,
    -1 (uncertain) or empty (unknown). Two images belong to one patient.

    Args:
      folder: The folder to write to.
      unstated: Part of the cells that are uncertain or empty, half of them each. The others are the
        truth.
      seed: Of everything.

    Returns:
      `folder`.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("Path", "Patient", "Split", *FINDINGS))
        for split, count in COUNTS.items():
            for number in range(count):
                name = f"images/{split}-{number:03}.png"
                present = rng.random(len(FINDINGS)) < 0.5
                pixels = rng.normal(90, 20, (_SIDE, _SIDE))
                for finding, is_present in zip(FINDINGS, present, strict=True):
                    # Some marks are hardly visible.
                    pixels += rng.uniform(0, 80) * (_MARKS[finding] & is_present)
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
                cells = [str(int(each)) for each in present]
                for column in np.flatnonzero(rng.random(len(FINDINGS)) < unstated):
                    cells[column] = rng.choice(["-1", ""])
                rows.writerow((name, f"{split}-{number // 2}", split, *cells))
    return folder
