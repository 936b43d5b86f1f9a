"""Computes what 10 million images need from constants that were measured with fewer.

Run: python benchmarks/scale.py. It writes the table of docs/scaling.md again; a test compares both.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from tables import format_rows

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
IMAGES = 10_000_000
EPOCHS = 30

# Of README.md: x86-64, 2 cores, 2026-11, except where a comment names another source.
PILLOW_MS = 2.72  # CPU time of decoding and fitting an original file of the Kaggle pneumonia set
BUILD_MS = 3.10  # CPU time of building it
DASK_MS = 0.67  # CPU time of the process that builds with Dask
BUILT_PER_S = 565  # images/s until the dataset is published, 2 cores
READ_PER_S = 56_917  # images/s without cache, 2 cores
READ_MS = 0.023  # CPU time
TRAINED_PER_S = 229  # images/s of `edge` with the default augmentation, 2 cores
# The rest was measured for this table on the same machine.
ORIGINAL_BYTES = 198_252  # mean of 240 files of the Kaggle pneumonia set
RECORD_BYTES = 224 * 224 + 177 + 16  # pixels, other fields, framing of a TFRecord
# Peak of the listing, the splits, the report and drawn statistics of each image, no image decoded:
# 761 MB with 20,000 and 958 MB with 100,000 files.
PLAN_BYTES = (958e6 - 761e6) / 80_000
START_BYTES = 761e6 - 20_000 * PLAN_BYTES
PLAN_MS = 0.09  # CPU time of the same
SHUFFLE_S = 0.5  # drawing the order of an epoch of 10 million images

BITS, HOUR, GB = 8, 3600, 1e9


def rows() -> list[tuple[str, str, str]]:
    """Returns what is needed, how much of it, and how it is computed."""
    stored = IMAGES * RECORD_BYTES
    # TFDS: shards of at most 1 GiB, in multiples of 1,024 from 64 GiB on.
    shards = 1024 * max(1, math.ceil(stored / 2**40))
    serial_ms = BUILD_MS - PILLOW_MS
    on_32 = max(BUILD_MS / 32, serial_ms)
    return [
        ("original files", f"{IMAGES * ORIGINAL_BYTES / 1e12:.2f} TB", "198 KB an image"),
        ("dataset `224`", f"{stored / 1e12:.2f} TB", f"{RECORD_BYTES:,} bytes an image"),
        ("shards", f"{shards:,} of {stored / shards / GB:.2f} GB", "TFDS's rule"),
        ("disk while building", f"{stored / 1e12:.2f} TB", "each shard is written once"),
        (
            "memory of the building process",
            f"{(START_BYTES + IMAGES * PLAN_BYTES) / GB:.0f} GB",
            f"{PLAN_BYTES / 1000:.1f} KB an image, and {START_BYTES / GB:.2f} GB",
        ),
        (
            "listing, splits and report",
            f"{IMAGES * PLAN_MS / 1000 / HOUR:.1f} h",
            f"{PLAN_MS:.2f} ms an image on one core",
        ),
        (
            "building on 2 cores",
            f"{IMAGES / BUILT_PER_S / HOUR:.1f} h",
            f"{BUILT_PER_S:,} images/s",
        ),
        (
            "building on 32 cores, at best",
            f"{IMAGES * on_32 / 1000 / HOUR:.1f} h",
            f"all but Pillow's work, {serial_ms:.2f} ms an image, on one core",
        ),
        (
            f"building with Dask, {math.ceil(PILLOW_MS / DASK_MS)} cores or more",
            f"{IMAGES * DASK_MS / 1000 / HOUR:.1f} h",
            f"the building process takes {DASK_MS:.2f} ms an image",
        ),
        (
            "order of an epoch",
            f"{SHUFFLE_S:.1f} s, {IMAGES * 4 / 1e6:.0f} MB",
            "int32, drawn once an epoch",
        ),
        (
            "reading an epoch on 2 cores, page cache",
            f"{IMAGES / READ_PER_S / 60:.1f} min",
            f"{READ_PER_S:,} images/s",
        ),
        (
            "for each 10,000 images/s of a GPU",
            f"{10_000 * READ_MS / 1000:.2f} cores, {10_000 * RECORD_BYTES / 1e6:.0f} MB/s",
            f"{READ_MS:.3f} ms an image",
        ),
        (
            "the same through a data service",
            f"{10_000 * RECORD_BYTES * BITS / GB:.1f} Gbit/s",
            "raw pixels on the network",
        ),
        (
            "an epoch through 10 Gbit/s, at best",
            f"{stored * BITS / 10e9 / 60:.0f} min",
            f"{10e9 / BITS / RECORD_BYTES:,.0f} images/s",
        ),
        (
            f"training `edge`, {EPOCHS} epochs, 2 cores",
            f"{EPOCHS * IMAGES / TRAINED_PER_S / HOUR / 24:.0f} days",
            f"{TRAINED_PER_S} images/s",
        ),
        (
            f"GPUs' rate for {EPOCHS} epochs in a day",
            f"{EPOCHS * IMAGES / HOUR / 24:,.0f} images/s",
            "no GPU was available to measure one",
        ),
    ]


def fill(page: str) -> str:
    """Returns the page with its table computed again."""
    table = format_rows([("10 million images", "needed", "from"), *rows()])
    block = r"(<!-- scale: benchmarks/scale.py -->\n).*?(\n<!-- end -->)"
    return re.sub(block, lambda match: f"{match[1]}\n{table}{match[2]}", page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
