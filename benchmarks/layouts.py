"""Compares builds of the same drawn images in the layouts of two datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import many_phantoms
import measure
from measure import Column, Target

KAGGLE, NIH = "chest_xray_pneumonia", "nih_chest_xray14"
LINKS = {KAGGLE: many_phantoms.link_kaggle, NIH: many_phantoms.link_nih}


def link(dataset: str, count: int, *, is_toy: bool) -> Path:
    """Returns a source folder of a dataset with `count` images; draws them unless they exist."""
    files = many_phantoms.draw_files(
        measure.WORK / f"many_{count}", count, 10 if is_toy else many_phantoms.DISTINCT
    )
    return LINKS[dataset](files, measure.WORK / f"build_{dataset}_{count}")


def report(result: measure.Report, found: Mapping[str, measure.Figures], count: int) -> None:
    """Adds the builds of the same images in two layouts, and the ratios of their figures."""
    result.table(
        [
            Column("layout"),
            Column("images", ","),
            Column("ms an image", ".2f"),
            Column("peak MB", ",.0f"),
        ],
        [(f"`{name}`", count, row["build_ms"], row["peak_mb"]) for name, row in found.items()],
    )
    for key, what in (("build_ms", "time an image"), ("peak_mb", "peak memory")):
        ratio = found[NIH][key] / found[KAGGLE][key]
        result.targets([Target(f"{what}: `{NIH}` ÷ `{KAGGLE}`", ratio, "<=", 1.05)])
