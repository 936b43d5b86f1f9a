"""Compares builds of the same drawn images in the layouts of two datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import many_phantoms
import measure

KAGGLE, NIH = "chest_xray_pneumonia", "nih_chest_xray14"
LINKS = {KAGGLE: many_phantoms.link_kaggle, NIH: many_phantoms.link_nih}


def link(dataset: str, count: int, *, is_toy: bool) -> Path:
    """Returns a source folder of a dataset with `count` images; draws them unless they exist."""
    files = many_phantoms.draw_files(
        measure.WORK / f"many_{count}", count, 10 if is_toy else many_phantoms.DISTINCT
    )
    return LINKS[dataset](files, measure.WORK / f"build_{dataset}_{count}")


def report(found: Mapping[str, measure.Figures], count: int) -> None:
    """Prints the builds of the same images in two layouts, and the ratios of their figures."""
    rows = [("layout", "images", "ms an image", "peak MB")]
    for name, figures in found.items():
        rows.append(
            (f"`{name}`", f"{count:,}", f"{figures['build_ms']:.2f}", f"{figures['peak_mb']:,.0f}")
        )
    measure.print_table(rows)
    ratios = {
        "time an image": found[NIH]["build_ms"] / found[KAGGLE]["build_ms"],
        "peak memory": found[NIH]["peak_mb"] / found[KAGGLE]["peak_mb"],
    }
    measure.print_verdicts(
        [(f"{what}: `{NIH}` ÷ `{KAGGLE}`", ratio, "<=", 1.05) for what, ratio in ratios.items()]
    )
