"""How fast a dataset is built, writing included, and in how much memory.

Run: python benchmarks/build.py (pip install -e ".[train,bench,dask]"; about 20 minutes).

The speed is measured on originals from --source, linked until there are --images files, or on
phantoms if the folder does not exist. All are stored as 224 x 224 grey. images/s covers the time
from the first image read to the last example on disk. "published" also includes reading the records
back, comparing them with the source and moving the dataset to its place. The peak memory covers the
building process with its libraries, but not Dask's workers.

At last --layout-images phantoms, all different, are built twice: as the Kaggle pneumonia set with
class folders, and as NIH ChestX-ray14 with its table, two lists and 14 findings. Here the time
covers everything from listing the source to the published dataset.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import build_others as others
import layouts
import measure
from measure import Column, Target

SHARED = Path(__file__).parents[2] / "shared" / "data" / "kermany_original" / "chest_xray"
TOY_IMAGES = 20
TOY_LAYOUT_IMAGES = 120


def folder_of(name: str, count: int) -> Path:
    """Returns the source folder with `count` linked images."""
    return measure.WORK / f"build_{name}_{count}"


def link(files: list[Path], folder: Path, count: int) -> None:
    """Writes `count` images to `folder`/chest_xray/train/CLASS, with few different contents.

    The images are hard links, because symbolic links must not lead out of a source.
    """
    if folder.is_dir() and sum(1 for _ in folder.glob("chest_xray/train/*/*")) == count:
        return
    shutil.rmtree(folder, ignore_errors=True)
    copied = folder / "copied"
    copied.mkdir(parents=True)
    copies = [Path(shutil.copy(file, copied / f"{n:05}")) for n, file in enumerate(files)]
    for number in range(count):
        file = files[number % len(files)]
        class_folder = folder / "chest_xray" / "train" / file.parent.name
        class_folder.mkdir(parents=True, exist_ok=True)
        os.link(copies[number % len(files)], class_folder / f"{file.stem}-{number:06}{file.suffix}")
    shutil.rmtree(copied)


def prepare(options: argparse.Namespace) -> None:
    """Writes the sources to benchmarks/work/ unless they exist."""
    files = measure.phantoms(folder_of("toy", 10), 10) if options.toy else None
    link(
        files or measure.source_files(options.source),
        folder_of("originals", options.images),
        options.images,
    )
    for count in (options.memory_images, 2 * options.memory_images):
        link(files or measure.phantoms(), folder_of("phantoms", count), count)


def build(source: Path, dataset: str = layouts.KAGGLE, **settings: str) -> measure.Figures:
    """Builds a dataset in a temporary folder and measures it.

    Args:
      source: Folder with the images.
      dataset: Name of the builder.
      settings: Of the config; by default the source keeps its splits.
    """
    import tensorflow_datasets as tfds

    builder_class = importlib.import_module(
        f"cxr_tfds.builders.{dataset}.{dataset}_dataset_builder"
    ).Builder
    settings = settings or {"name": "224-source", "split": "source"}
    times: list[tuple[float, float]] = []

    def record_time(function: Callable) -> Callable:
        def recorded(*args):
            result = function(*args)
            times.append((time.perf_counter(), time.process_time()))
            return result

        return recorded

    with contextlib.ExitStack() as stack:
        data_dir = stack.enter_context(tempfile.TemporaryDirectory(dir=measure.WORK))
        config = builder_class.builder_config_cls(**settings)
        builder = builder_class(data_dir=data_dir, config=config)
        # The first returns after scanning the source, the second after writing all shards. In the
        # class, because another builder writes to a temporary folder.
        for name in ("_split_generators", "_generate_splits"):
            timed = record_time(getattr(builder_class, name))
            stack.enter_context(mock.patch.object(builder_class, name, timed))
        begin = time.perf_counter()
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=source)
        )
        build_ms = 1000 * (time.perf_counter() - begin)
        (start, cpu), (written, _) = times[-2:]  # a build may start again
        images = builder.info.splits.total_num_examples
        figures = others.make_figures(images, start, cpu)
    return figures | {
        "published_per_s": figures["images_per_s"],
        "images_per_s": images / (written - start),
        "build_ms": build_ms / images,
    }


def ours(source: Path) -> measure.Measure:
    """Builds with threads on all cores, like `tfds build`."""
    return lambda _: build(source)


def dask(source: Path) -> measure.Measure:
    """Builds with a Dask scheduler and two worker processes of one thread on this machine."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    address = cluster.scheduler_address.replace("tcp://", "dask://")

    def once(_: float) -> measure.Figures:
        os.environ["CXR_TFDS_EXECUTOR"] = address
        try:
            return build(source)
        finally:
            del os.environ["CXR_TFDS_EXECUTOR"]

    return once


CONTENDERS: dict[str, tuple[str, Callable[[Path], measure.Measure]]] = {
    "pillow": ("bare Pillow, all cores, nothing written", others.pillow),
    "ours": ("**ours**, threads", ours),
    "dask": ("**ours**, Dask, two worker processes", dask),
    "image_folder": ("tfds.ImageFolder, read and re-encoded as JPEG", others.image_folder),
}


COLUMNS = {
    "images_per_s": Column("images/s", ",.0f", spread=True),
    "published_per_s": Column("published", ",.0f"),
    "cpu_ms": Column("CPU ms an image", ".2f"),
    "peak_mb": Column("peak MB", ",.0f"),
}


def report(
    result: measure.Report,
    found: Mapping[str, measure.Figures],
    memory: Mapping[int, measure.Figures],
    files: int,
) -> None:
    """Adds what was measured, and the ratios next to the required ones."""
    rows = [(title, files, found[name]) for name, (title, _) in CONTENDERS.items() if name in found]
    rows += [("**ours**, threads, phantoms", count, row) for count, row in memory.items()]
    result.table(
        [Column("way"), Column("files", ","), *COLUMNS.values()],
        [(title, count, *(row.get(key) for key in COLUMNS)) for title, count, row in rows],
    )
    (few, few_figures), (many, many_figures) = memory.items()
    speed = found["ours"]["images_per_s"] / found["pillow"]["images_per_s"]
    growth = many_figures["peak_mb"] / few_figures["peak_mb"]
    peak_gb = many_figures["peak_mb"] * 2**20 / 1e9
    result.targets(
        [
            Target("ours, written ÷ bare Pillow", speed, ">=", 0.85, is_main=True),
            Target(f"peak memory: {many:,} ÷ {few:,} images", growth, "<=", 1.1),
            Target(f"peak memory of {many:,} images, GB", peak_gb, "<=", 2.2),
        ]
    )


def main(options: argparse.Namespace) -> None:
    """Runs the benchmark, or one contender in a child process."""
    if options.toy:
        options.images = options.memory_images = TOY_IMAGES
        options.layout_images = TOY_LAYOUT_IMAGES
    originals = folder_of("originals", options.images)
    counts = (options.memory_images, 2 * options.memory_images)
    given = [f"--source={options.source}", f"--images={options.images}"]
    given.append(f"--memory-images={options.memory_images}")
    given.append(f"--layout-images={options.layout_images}")
    only = options.only or ""
    if only == "prepare":
        prepare(options)
    elif only.startswith("memory"):
        print(json.dumps(build(folder_of("phantoms", int(only.removeprefix("memory"))))))
    elif only in layouts.LINKS:
        source = layouts.link(only, options.layout_images, is_toy=options.toy)
        print(json.dumps(build(source, only, name="224-cut")))
    elif only:
        measure.serve(CONTENDERS[only][1](originals))
    else:
        if options.toy:
            prepare(options)
        else:
            measure.run_once(__file__, "prepare", given)
        contenders = {
            name: functools.partial(make, originals) for name, (_, make) in CONTENDERS.items()
        }
        if options.toy:
            del contenders["dask"]  # its workers would import TensorFlow
        options.seconds = 0  # each measurement is one build
        found = measure.compare(__file__, contenders, options, given)
        memory = {}
        for count in counts:
            print(f"building {count:,} phantoms", file=sys.stderr)
            source = folder_of("phantoms", count)
            memory[count] = measure.measure_once(
                __file__, f"memory{count}", functools.partial(build, source), options, given
            )
        result = measure.Report(__file__, is_toy=options.toy)
        result.note(measure.describe_source(options.source))
        report(result, found, memory, options.images)
        built = {}
        for dataset in layouts.LINKS:
            source = layouts.link(dataset, options.layout_images, is_toy=options.toy)
            # Each has a process of its own, for its peak memory.
            once = functools.partial(build, source, dataset, name="224-cut")
            built[dataset] = measure.measure_once(__file__, dataset, once, options, given)
        layouts.report(result, built, options.layout_images)
        result.save()


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument(
        "--source", type=Path, default=SHARED, help="Folder chest_xray to read. [%(default)s]"
    )
    parser.add_argument(
        "--images", type=int, default=2400, help="Files to build for speed. [%(default)s]"
    )
    parser.add_argument(
        "--memory-images",
        type=int,
        default=50_000,
        help="Phantoms to build for memory, then twice as many. [%(default)s]",
    )
    parser.add_argument(
        "--layout-images",
        type=int,
        default=112_120,
        help="Phantoms to build in two layouts, as many as NIH ChestX-ray14 has. [%(default)s]",
    )
    main(parser.parse_args())
