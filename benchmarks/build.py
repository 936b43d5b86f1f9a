"""How fast a dataset is built, writing included, and in how much memory.

Run: python benchmarks/build.py (pip install -e ".[train,bench,dask]"; about 12 minutes). Originals from
--source, linked until they are --images files; phantoms where it is absent. All give 224 x 224 grey.

images/s is from the first image read to the last example on disk; "published" ends when ours has read the
records back, compared them with the source and put the dataset in its place. The peak is that of the process
that builds, libraries included; of Dask's workers nothing is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import measure

SHARED = Path(__file__).parents[2] / "shared" / "data" / "kermany_original" / "chest_xray"
SIZE = 224
ORIGINALS = measure.WORK / "build_originals"
PHANTOMS = measure.WORK / "build_phantoms"


def link(files: list[Path], folder: Path, count: int) -> None:
    """`folder`/chest_xray/train/CLASS/*: `count` files of other names, few of other content.

    Hard links: a source may not lead out of its folder by symbolic ones.
    """
    if folder.is_dir() and sum(1 for _ in folder.glob("chest_xray/train/*/*")) == count:
        return
    shutil.rmtree(folder, ignore_errors=True)
    kept = folder / "kept"
    kept.mkdir(parents=True)
    copies = [Path(shutil.copy(file, kept / f"{number:05}")) for number, file in enumerate(files)]
    for number in range(count):
        file = files[number % len(files)]
        place = (
            folder
            / "chest_xray"
            / "train"
            / file.parent.name
            / f"{file.stem}-{number:06}{file.suffix}"
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(copies[number % len(files)], place)
    shutil.rmtree(kept)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the sources to benchmarks/work/, unless they stand there already."""
    link(measure.source_files(arguments.source), ORIGINALS, arguments.images)
    for count in (arguments.memory_images, 2 * arguments.memory_images):
        link(measure.phantoms(), PHANTOMS.with_name(f"{PHANTOMS.name}_{count}"), count)


def build(source: Path) -> measure.Figures:
    """Our builder, into a folder that is removed again."""
    import tensorflow_datasets as tfds

    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
    from cxr_tfds.building.config import RadiographConfig

    at: list[tuple[float, float]] = []

    def then_stamp(function: Callable) -> Callable:
        def stamping(*args):
            result = function(*args)
            at.append((time.perf_counter(), time.process_time()))
            return result

        return stamping

    with tempfile.TemporaryDirectory(dir=measure.WORK) as data_dir:
        builder = Builder(
            data_dir=data_dir, config=RadiographConfig(name="224-source", split="source")
        )
        # The first returns when the source is scanned, the second when all shards are written.
        builder._split_generators = then_stamp(builder._split_generators)
        builder._generate_splits = then_stamp(builder._generate_splits)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=source)
        )
        (start, cpu), (written, _) = at
        images = builder.info.splits.total_num_examples
        figures = _figures(images, start, cpu)
    return figures | {
        "published_per_s": figures["images_per_s"],
        "images_per_s": images / (written - start),
    }


def _figures(images: int, start: float, cpu: float) -> measure.Figures:
    passed, used = time.perf_counter() - start, time.process_time() - cpu
    return {
        "images_per_s": images / passed,
        "cpu_ms": 1000 * used / images,
        "peak_mb": measure.peak_mb(),
    }


def ours() -> measure.Measure:
    """Threads over this machine's cores, as `tfds build` does by itself."""
    return lambda _: build(ORIGINALS)


def dask() -> measure.Measure:
    """The same through a Dask scheduler and two worker processes of one thread, all on this machine."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    os.environ["CXR_TFDS_EXECUTOR"] = cluster.scheduler_address.replace("tcp://", "dask://")
    return lambda _: build(ORIGINALS)


def pillow() -> measure.Measure:
    """draft and resize on all cores, nothing else: no check, no records, nothing written."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image

    from cxr_tfds.parallel import core_count

    files = sorted(ORIGINALS.glob("chest_xray/train/*/*"))
    pool = ThreadPoolExecutor(core_count())

    def load(file: Path) -> int:
        with Image.open(file) as image:
            image.draft("L", (SIZE, SIZE))
            return np.asarray(
                image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            ).size

    def once(_: float) -> measure.Figures:
        start, cpu = time.perf_counter(), time.process_time()
        return _figures(sum(1 for _ in pool.map(load, files)), start, cpu)

    return once


def image_folder() -> measure.Measure:
    """TFDS's ImageFolder, which stores nothing by itself: read, resized and written as JPEG in a TFRecord."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def encode(example: dict) -> tf.Tensor:
        grey = tf.image.rgb_to_grayscale(example["image"])
        small = tf.image.resize(grey, (SIZE, SIZE), antialias=True)
        return tf.io.encode_jpeg(tf.cast(small, tf.uint8))

    def records(folder: tfds.ImageFolder) -> Iterator[bytes]:
        for data in (
            folder.as_dataset(split="train")
            .map(encode, tf.data.AUTOTUNE)
            .prefetch(64)
            .as_numpy_iterator()
        ):
            feature = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))}
            yield tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    def once(_: float) -> measure.Figures:
        folder = tfds.ImageFolder(str(ORIGINALS / "chest_xray"))
        start, cpu = time.perf_counter(), time.process_time()
        images = 0
        with (
            tempfile.TemporaryDirectory(dir=measure.WORK) as out,
            tf.io.TFRecordWriter(f"{out}/train") as writer,
        ):
            for record in records(folder):
                writer.write(record)
                images += 1
        return _figures(images, start, cpu)

    return once


CONTENDERS: dict[str, tuple[str, Callable[[], measure.Measure]]] = {
    "pillow": ("bare Pillow, all cores, nothing written", pillow),
    "ours": ("**ours**, threads", ours),
    "dask": ("**ours**, Dask, two worker processes", dask),
    "image_folder": ("tfds.ImageFolder, read and re-encoded as JPEG", image_folder),
}


def report(
    found: dict[str, measure.Figures], memory: dict[int, measure.Figures], files: int
) -> None:
    """Prints what was measured, then the ratios beside what issue 3 requires."""
    rows = [("way", "files", "images/s", "published", "CPU ms an image", "peak MB")]
    for name, (title, _) in CONTENDERS.items():
        rows.append((title, f"{files:,}", *_cells(found[name])))
    rows += [
        ("**ours**, threads, phantoms", f"{count:,}", *_cells(figures))
        for count, figures in memory.items()
    ]
    measure.print_table(rows)
    few, many = memory.values()
    half, whole = memory
    measure.print_verdicts(
        [
            (
                "ours, written ÷ bare Pillow",
                found["ours"]["images_per_s"] / found["pillow"]["images_per_s"],
                ">=",
                0.85,
            ),
            (
                f"peak memory: {whole:,} ÷ {half:,} images",
                many["peak_mb"] / few["peak_mb"],
                "<=",
                1.1,
            ),
            (f"peak memory of {whole:,} images, GB", many["peak_mb"] * 2**20 / 1e9, "<=", 2.2),
        ]
    )


def _cells(figures: measure.Figures) -> tuple[str, ...]:
    published = f"{figures['published_per_s']:,.0f}" if "published_per_s" in figures else ""
    return (
        f"{figures['images_per_s']:,.0f}",
        published,
        f"{figures['cpu_ms']:.2f}",
        f"{figures['peak_mb']:,.0f}",
    )


def main(arguments: argparse.Namespace) -> None:
    given = [f"--source={arguments.source}", f"--images={arguments.images}"]
    given += [f"--memory-images={arguments.memory_images}"]
    if arguments.only == "prepare":
        prepare(arguments)
    elif (arguments.only or "").startswith("memory"):
        print(json.dumps(build(PHANTOMS.with_name(f"{PHANTOMS.name}_{arguments.only[6:]}"))))
    elif arguments.only:
        measure.serve(CONTENDERS[arguments.only][1]())
    else:
        measure.run_once(__file__, "prepare", given)
        found = measure.in_turns(
            __file__, CONTENDERS, repeats=arguments.repeats, seconds=0, arguments=given
        )
        memory = {}
        for count in (arguments.memory_images, 2 * arguments.memory_images):
            print(f"building {count:,} phantoms", file=sys.stderr)
            memory[count] = json.loads(
                measure.run_once(__file__, f"memory{count}", given).splitlines()[-1]
            )
        measure.print_source(arguments.source)
        report(found, memory, arguments.images)


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument(
        "--source", type=Path, default=SHARED, help="A chest_xray folder. [%(default)s]"
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
    main(parser.parse_args())
