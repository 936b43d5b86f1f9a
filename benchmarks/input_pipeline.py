"""Compares how fast radiographs reach the network: our records and other ways to read them.

Run: python benchmarks/input_pipeline.py (pip install -e ".[train]"; about 12 minutes, and 2 more
the first time). It reads the files of --source, repeated to 5,000, or drawn phantoms if there are
none. All contenders yield batches of 32 images of 224 x 224, grey. The packages of `peers.py` are
measured as well if `make peers` has installed them.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import input_readers as readers
import measure
import peers
from input_data import BATCH, Workload, prepare
from measure import Column, Target

SHARED = Path(__file__).parents[2] / "shared" / "data" / "kermany_original" / "chest_xray"
# 60 steps, 1,920 images: one call of fit costs as little per image as in an epoch.
FULL = Workload(measure.WORK, 5000, 60, (10_000, 500_000))
TOY = Workload(measure.WORK / "input_pipeline_toy", 64, 2, (64, 128))
SMALL, LARGE = "memory_small", "memory_large"


class Contender(NamedTuple):
    """A way to read: its row of the table, and what measures it."""

    title: str
    configuration: str
    shuffle: str
    make: Callable[[Workload], measure.Measure]


CONTENDERS = {
    "idg": Contender(
        "ImageDataGenerator", "originals", "exact",
        lambda work: readers.generator(work.originals),
    ),
    "idg_224": Contender(
        "ImageDataGenerator", "224 files", "exact", lambda work: readers.generator(work.copies)
    ),
    "idg_224_classic": Contender(
        "ImageDataGenerator", "224 files, augmented", "exact",
        lambda work: readers.generator(work.copies, **readers.CLASSIC),
    ),
    "keras": Contender(
        "image_dataset_from_directory", "originals", "exact",
        lambda work: readers.keras_directory(work.originals),
    ),
    "keras_224": Contender(
        "image_dataset_from_directory", "224 files", "exact",
        lambda work: readers.keras_directory(work.copies),
    ),
    "tfds": Contender("plain tfds", "`original`", "buffer of 1,000", readers.plain_tfds),
    "pillow": Contender("bare Pillow", "originals, all cores", "exact", readers.bare_pillow),
    "ours_original": Contender(
        "**ours**", "`original` decoded on the fly", "exact", readers.ours_original
    ),
    "preadv": Contender(
        "earlier reader of ours", "`preadv` for each image", "exact", readers.preadv
    ),
    "ours": Contender("**ours**", "`224`", "exact", readers.ours),
    "memmap": Contender(
        "NumPy gather", "mapped file", "exact",
        functools.partial(readers.gather, mapped=True),
    ),
    "numpy": Contender(
        "NumPy gather", "memory", "exact", functools.partial(readers.gather, mapped=False)
    ),
    "ours_classic": Contender("**ours**", "`224`, augmented", "exact", readers.ours_classic),
    SMALL: Contender(
        "**ours**", f"`224`, {FULL.memory_images[0]:,} images", "exact",
        lambda work: readers.ours_memory(work, work.memory_images[0]),
    ),
    LARGE: Contender(
        "**ours**", f"`224`, {FULL.memory_images[1]:,} images", "exact",
        lambda work: readers.ours_memory(work, work.memory_images[1]),
    ),
}  # fmt: skip
COLUMNS = (
    Column("reader"),
    Column("configuration"),
    Column("shuffle"),
    Column("images/s", ",.0f", spread=True),
    Column("CPU ms an image", ".4f", spread=True),
    Column("peak MB", ",.0f"),
)
KEYS = ("images_per_s", "cpu_ms", "peak_mb")
NOTES = (
    "The originals are 240 files of the Kaggle pneumonia set, each linked several times and all in "
    "the page cache; the 224 files are JPEGs with quality 75.",
    "FFCV is missing: it does not build from pip without the headers of OpenCV and libjpeg-turbo.",
)


def list_targets(found: dict[str, measure.Figures]) -> Iterable[Target]:
    """Yields the ratios and what is required of them."""

    def ratio(name: str, other: str, key: str = "images_per_s") -> float:
        return found[name][key] / found[other][key]

    yield Target("ours ÷ earlier reader", ratio("ours", "preadv"), ">=", 3, is_main=True)
    cpu_ms = found["ours"]["cpu_ms"]
    yield Target("CPU ms an image, ours", cpu_ms, "<=", 0.008, is_main=True)
    for name, peer in peers.PEERS.items():
        if name in found:
            title, cpu_ratio = f"ours ÷ {peer.title}", ratio("ours", name, "cpu_ms")
            yield Target(title, ratio("ours", name), ">=", 1, is_main=name == "dali")
            yield Target(f"{title}, CPU time", cpu_ratio, "<=", 1)
    yield Target("ours ÷ NumPy gather from memory", ratio("ours", "numpy"), ">=", 0.6)
    yield Target("ours ÷ ImageDataGenerator, originals", ratio("ours", "idg"), ">=", 100)
    yield Target("ours ÷ ImageDataGenerator, 224 files", ratio("ours", "idg_224"), ">=", 10)
    classic = ratio("ours_classic", "idg_224_classic")
    yield Target("augmented ÷ ImageDataGenerator augmented, 224 files", classic, ">=", 7)
    decoded = ratio("ours_original", "pillow")
    yield Target("`original` decoded on the fly ÷ bare Pillow", decoded, ">=", 0.85)
    epochs = found["epochs"]
    title = "time of an epoch: pipeline ÷ tensors in memory"
    yield Target(title, epochs["time_ratio"], "<=", 1.03, is_main=True)
    yield Target("CPU time of the same", epochs["cpu_ratio"], "<=", 1.03)
    small, large = (f"{count:,}" for count in FULL.memory_images)
    growth = ratio(LARGE, SMALL, "own_mb")
    yield Target(f"memory except mapped files: {large} ÷ {small} images", growth, "<=", 1.1)


def report(found: dict[str, measure.Figures], source: str, *, is_toy: bool) -> None:
    """Prints and saves what was measured."""
    result = measure.Report(__file__, is_toy=is_toy)
    for note in (source, *NOTES):
        result.note(note)
    rows = CONTENDERS | peers.PEERS
    result.table(
        COLUMNS,
        [
            (*rows[name][:3], *(figures[key] for key in KEYS))
            for name, figures in sorted(
                ((name, found[name]) for name in rows if name in found),
                key=lambda row: row[1]["images_per_s"],
            )
        ],
    )
    result.targets(list_targets(found))
    result.save()


def main(options: argparse.Namespace) -> None:
    """Runs the benchmark, or one contender in a child process."""
    work = TOY if options.toy else FULL
    makes = {name: contender.make for name, contender in CONTENDERS.items()}
    contenders = {name: functools.partial(make, work) for name, make in makes.items()}
    last = {"epochs": functools.partial(readers.epochs, work)}
    if options.only == "prepare":
        prepare(work, measure.source_files(options.source))
    elif options.only:
        measure.serve((contenders | last)[options.only]())
    else:
        commands = {}
        if options.toy:
            prepare(work, measure.phantoms(TOY.folder / "phantoms", 10))
        else:
            measure.run_once(__file__, "prepare", ["--source", str(options.source)])
            commands = prepare_peers(work)
        found = measure.compare(__file__, contenders, options, commands=commands)
        # 3 % is little compared with the drift of a machine: more turns.
        options.repeats *= 2
        found |= measure.compare(__file__, last, options)
        source = measure.describe_source(options.source)
        report(found, f"Batches of {BATCH}. {source}", is_toy=options.toy)


def prepare_peers(work: Workload) -> dict[str, list[str]]:
    """Writes the formats of the peers; returns the commands that measure them, if installed."""
    if not (peers.ENVIRONMENT / ".done").is_file():
        print("The peers are not installed. Install them with: make peers", file=sys.stderr)
        return {}
    subprocess.run(peers.command("prepare", work.folder), check=True)
    return {name: peers.command(name, work.folder) for name in peers.PEERS}


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument(
        "--source", type=Path, default=SHARED, help="Folder chest_xray to read. [%(default)s]"
    )
    main(parser.parse_args())
